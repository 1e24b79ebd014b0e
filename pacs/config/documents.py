"""
The configuration's documents, made from its model: the defaults as a file, every key explained, the JSON schema.

`python -m pacs.config.documents DIRECTORY` writes them; a test checks that they are up to date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel

from pacs.config.availability import NOT_AVAILABLE
from pacs.config.model import Configuration

DEFAULTS: Final = "pacs_config.yaml"
EXAMPLE: Final = "pacs_config.example.yaml"
SCHEMA: Final = "schema.json"


def _yaml(value: Any) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("\n...\n").strip()


def _lines(model: BaseModel, path: str, indent: int, *, explained: bool) -> list[str]:
    lines: list[str] = []
    margin = "  " * indent
    values = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        key = f"{path}.{name}" if path else name
        later = "; not available yet" if explained and key in NOT_AVAILABLE else ""
        comment = f"  # {field.description}{later}" if explained else ""
        if isinstance(value, BaseModel):
            lines.append(f"{margin}{name}:{comment}")
            lines += _lines(value, key, indent + 1, explained=explained)
        elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
            lines.append(f"{margin}{name}:{comment}")
            lines += [f"{margin}  - {_yaml(item)}" for item in values[name]]
        else:
            lines.append(f"{margin}{name}: {_yaml(values[name])}{comment}")
    return lines


def documents() -> dict[str, str]:
    """Give the text of each document by its file name."""
    configuration = Configuration()
    head = "# Production PACS: the defaults. Every key is explained in pacs_config.example.yaml.\n"
    example_head = (
        "# Production PACS: every key, its default, and what it means. A file needs only the keys that differ.\n"
        "# An environment variable such as PACS_SERVER__PORT=11113 overrides a key; ${NAME} and ${NAME:-default} in a\n"
        "# value are replaced from the environment; a secret can be given as <key>_file: PATH.\n"
    )
    schema = Configuration.model_json_schema()
    return {
        DEFAULTS: head + "\n".join(_lines(configuration, "", 0, explained=False)) + "\n",
        EXAMPLE: example_head + "\n".join(_lines(configuration, "", 0, explained=True)) + "\n",
        SCHEMA: json.dumps(schema, indent=2) + "\n",
    }


if __name__ == "__main__":
    for file_name, text in documents().items():
        (Path(sys.argv[1]) / file_name).write_text(text, encoding="utf-8")
