"""
Reading the configuration: YAML with line marks, the environment over it, and every fault at once.
"""

from __future__ import annotations

import difflib
import itertools
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from pacs.config.advice import advice
from pacs.config.availability import refused_keys, warnings
from pacs.config.errors import ConfigurationError, Fault
from pacs.config.model import Configuration
from pacs.config.secrets import SecretsLook

ENVIRONMENT_PREFIX: Final = "PACS_"
LARGEST_FILE_BYTES: Final = 1 << 20
LARGEST_SECRET_BYTES: Final = 1 << 16
MOST_NODES: Final = 100_000

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
NO_VALUE: Final = (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError)
"""What PyYAML raises at a text that it takes for a date, a number or a list, and that is none."""
_BOOLEAN: Final = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


@dataclass(frozen=True, slots=True)
class Loaded:
    """
    A configuration that can be used.

    Attributes:
        source: the file, or None for the built-in defaults.
        warnings: for the log.
        places: source and line of the keys that are not built-in defaults.
    """

    configuration: Configuration
    source: Path | None
    warnings: tuple[str, ...]
    places: Mapping[tuple[str | int, ...], tuple[str, int]] = field(default_factory=dict, repr=False)

    def place(self, path: tuple[str | int, ...]) -> str:
        """Give FILE:LINE of a key, or what else its value comes from."""
        while path not in self.places and path and isinstance(path[-1], int):
            path = path[:-1]  # an environment variable gives a whole list
        source, line = self.places.get(path, ("built-in defaults", 0))
        return f"{source}:{line}" if line else source


@dataclass(slots=True)
class _Reading:
    """
    What is gathered while a configuration is read.

    Attributes:
        references: keys whose values come from other files or from the environment.
        secret_files: those other files.
        without_value: keys that have a fault and no value; what the model says of them is no news.
        is_over: nothing was read, or not all: what the model would say of the rest is wrong.
    """

    source: str
    faults: list[Fault] = field(default_factory=list)
    lines: dict[tuple[str | int, ...], tuple[str, int]] = field(default_factory=dict)
    references: set[tuple[str | int, ...]] = field(default_factory=set)
    secret_files: list[tuple[tuple[str | int, ...], Path]] = field(default_factory=list)
    without_value: set[tuple[str | int, ...]] = field(default_factory=set)
    is_over: bool = False
    node_count: int = 0

    def fault(self, path: tuple[str | int, ...], message: str, line: int = 0) -> None:
        source, known_line = self.place(path)
        self.faults.append(Fault(source, line or known_line, _key(path), message))

    def stop(self, path: tuple[str | int, ...], message: str, line: int = 0) -> None:
        """Note a fault with which there is no going on."""
        self.fault(path, message, line)
        self.is_over = True

    def is_by_value(self, path: tuple[str | int, ...]) -> bool:
        """Whether a value stands in the file itself, not in another one or in the environment."""
        return path in self.lines and self.lines[path][0] == self.source and path not in self.references

    def place(self, path: tuple[str | int, ...]) -> tuple[str, int]:
        """Give source and line of a key, or of the nearest one above it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, (self.source, 0))


def _key(path: tuple[str | int, ...]) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def is_there(path: Path) -> bool:
    """Whether a file exists; one behind a closed directory may, and reading it tells why it can't be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load_configuration(path: Path | None, environment: Mapping[str, str]) -> Loaded:
    """
    Read a configuration.

    Args:
        path: of the YAML file; None, or one that does not exist, gives the defaults and the environment.

    Raises:
        ConfigurationError: with all faults.
    """
    exists = path is not None and is_there(path)
    reading = _Reading(str(path) if path is not None else "built-in defaults")
    values = _read_file(path, reading, environment) if path is not None and exists else {}
    if reading.is_over:
        raise ConfigurationError(reading.faults)
    _apply_environment(values, environment, reading)
    _drop_empty_sections(Configuration, values)
    _read_secret_files(Configuration, values, (), reading)
    configuration = _validated(values, reading)
    if configuration is None:
        raise ConfigurationError(reading.faults)
    for key in refused_keys(configuration):
        path_of_key = tuple(int(part) if part.isdigit() else part for part in key.split("."))
        reading.fault(path_of_key, "not available yet; remove it to use the default")
    secrets = SecretsLook(configuration, path if exists else None, reading.is_by_value)
    for place, secret_file in reading.secret_files:
        secrets.look_at_file(place, secret_file)
    for place, message in secrets.faults:
        reading.fault(place, message)
    if reading.faults:
        raise ConfigurationError(reading.faults)
    told = (*warnings(configuration), *advice(configuration), *secrets.warnings)
    return Loaded(configuration, path if exists else None, told, reading.lines)


def _read_file(path: Path, reading: _Reading, environment: Mapping[str, str]) -> dict[str, Any]:
    try:
        if path.stat().st_size > LARGEST_FILE_BYTES:
            reading.stop((), f"longer than {LARGEST_FILE_BYTES} bytes")
            return {}
        text = path.read_bytes().decode("utf-8-sig")
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except OSError as error:
        reading.stop((), f"can't be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        reading.stop((), "is not UTF-8 text")
        return {}
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark is not None else 0
        reading.stop((), f"no YAML: {error.problem or error.context}", line)
        return {}
    except (yaml.YAMLError, RecursionError) as error:
        reading.stop((), f"no YAML: {str(error).splitlines()[0]}")
        return {}
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        reading.stop((), "the top level must be a mapping of sections", node.start_mark.line + 1)
        return {}
    value = _value(node, (), reading, environment)
    return value if isinstance(value, dict) else {}


def _value(node: yaml.Node, path: tuple[str | int, ...], reading: _Reading, environment: Mapping[str, str]) -> Any:
    """Give a node's value; note the line of each key."""
    reading.lines.setdefault(path, (reading.source, node.start_mark.line + 1))
    reading.node_count += 1
    if reading.node_count > MOST_NODES or len(path) > 20:
        if not reading.is_over:
            reading.stop(path, "too many values or too deep; are aliases nested?", node.start_mark.line + 1)
        return None
    if isinstance(node, yaml.MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                reading.fault(path, "a key must be a word", line)
                continue
            key = str(key_node.value)
            if key in values:
                reading.fault((*path, key), "is there twice", line)
            reading.lines[(*path, key)] = (reading.source, line)
            values[key] = _value(value_node, (*path, key), reading, environment)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_value(item, (*path, index), reading, environment) for index, item in enumerate(node.value)]
    return _scalar(node, path, reading, environment)


def _scalar(node: yaml.Node, path: tuple[str | int, ...], reading: _Reading, environment: Mapping[str, str]) -> Any:
    value = node.value
    if node.tag == "tag:yaml.org,2002:str" or "${" in value:
        replaced = _replace_variables(str(value), path, reading, environment)
        if replaced != value:
            reading.references.add(path)
        return _typed(replaced, path) if replaced != value and not getattr(node, "style", None) else replaced
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    except NO_VALUE as error:
        reading.fault(path, f"no value: {str(error).splitlines()[0]}")
        reading.without_value.add(path)
        return None


def _replace_variables(
    text: str, path: tuple[str | int, ...], reading: _Reading, environment: Mapping[str, str]
) -> str:
    def replacement(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name in environment:
            return environment[name]
        if default is None:
            reading.fault(path, f"the environment has no {name}; set it, or write ${{{name}:-default}}")
            reading.without_value.add(path)
            return ""
        return default

    return _VARIABLE.sub(replacement, text)


def _apply_environment(values: dict[str, Any], environment: Mapping[str, str], reading: _Reading) -> None:
    for name in sorted(environment):
        if not name.startswith(ENVIRONMENT_PREFIX) or "__" not in name:
            continue
        path = tuple(part.lower() for part in name[len(ENVIRONMENT_PREFIX) :].split("__"))
        place = (f"environment variable {name}", 0)
        target: Any = values
        for depth, part in enumerate(path[:-1], start=1):
            if not isinstance(target.get(part), dict):
                target[part] = {}
                reading.lines[path[:depth]] = place
            target = target[part]
        target[path[-1]] = _environment_value(environment[name], path)
        reading.lines[path] = place
        reading.without_value = {key for key in reading.without_value if key[: len(path)] != path}


def _environment_value(text: str, path: tuple[str | int, ...]) -> Any:
    return _typed(text, path) if text.strip() else text


def _typed(text: str, path: tuple[str | int, ...]) -> Any:
    """Give what a text of the environment stands for: YAML, but 12345 and ON stay text where the key takes text."""
    takes_text = _takes_text(path)
    lowered = text.strip().lower()
    if lowered in _BOOLEAN and not takes_text:
        return _BOOLEAN[lowered]
    try:
        value = yaml.safe_load(text)
    except NO_VALUE:
        return text
    return value if value is None or isinstance(value, str) or not takes_text else text.strip()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Give the sections that a field's type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple, typing.Annotated):
        return [model for part in typing.get_args(annotation) for model in _models_in(part)]
    return []


def _drop_empty_sections(model: type[BaseModel], values: dict[str, Any]) -> None:
    """Leave out sections whose keys are all commented out, which YAML takes for null: their defaults hold."""
    for key in list(values):
        section = model.model_fields[key].annotation if key in model.model_fields else None
        if isinstance(section, type) and issubclass(section, BaseModel):
            if values[key] is None:
                del values[key]
            elif isinstance(values[key], dict):
                _drop_empty_sections(section, values[key])


def _read_secret_files(
    model: type[BaseModel], values: dict[str, Any], path: tuple[str | int, ...], reading: _Reading
) -> None:
    """Replace `<key>_file: PATH` by the file's content, for keys that have no `_file` form of their own."""
    for key in list(values):
        name = key.removesuffix("_file")
        if key not in model.model_fields and name != key and name in model.model_fields:
            file_name = values.pop(key)
            try:
                content = Path(str(file_name)).read_bytes()[:LARGEST_SECRET_BYTES].decode("utf-8").strip()
            except (OSError, ValueError):  # no text, or a name that no file can have
                reading.fault((*path, key), "no such file, or it can't be read; give the path of a text file")
                continue
            if name in values:
                reading.fault((*path, key), f"stands beside {name}; give one of the two")
            values[name] = content
            reading.lines[(*path, name)] = reading.place((*path, key))
            reading.references.add((*path, name))
            reading.secret_files.append(((*path, key), Path(str(file_name))))
        elif key in model.model_fields:
            for inner in _models_in(model.model_fields[key].annotation):
                if isinstance(values[key], dict):
                    _read_secret_files(inner, values[key], (*path, key), reading)
                elif isinstance(values[key], list):
                    for index, item in enumerate(values[key]):
                        if isinstance(item, dict):
                            _read_secret_files(inner, item, (*path, key, index), reading)


def _models_at(path: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """Give what a section may be."""
    models: list[type[BaseModel]] = [Configuration]
    for part in path:
        if isinstance(part, int):
            continue
        models = [
            inner
            for model in models
            if part in model.model_fields
            for inner in _models_in(model.model_fields[part].annotation)
        ]
    return models


def _takes_text(path: tuple[str | int, ...]) -> bool:
    """Whether a key, or the items of a list, takes text and nothing else."""
    place = path[:-1] if isinstance(path[-1], int) else path
    models = [model for model in _models_at(place[:-1]) if place[-1] in model.model_fields]
    annotations = [model.model_fields[str(place[-1])].annotation for model in models]
    if place != path:
        annotations = [typing.get_args(annotation)[0] for annotation in annotations if typing.get_args(annotation)]
    return bool(annotations) and all(map(_is_text, annotations))


def _is_text(annotation: Any) -> bool:
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _is_text(parts[0])
    if origin in (typing.Union, types.UnionType):
        return all(_is_text(part) for part in parts if part is not types.NoneType)
    if origin is typing.Literal:
        return all(isinstance(part, str) for part in parts)
    return annotation in (str, SecretStr)


def _validated(values: dict[str, Any], reading: _Reading) -> Configuration | None:
    """
    Give the configuration, and note its faults; keys that have one are left out, so that the others are looked at, too.

    Returns:
        None when what is left is none.
    """
    doubtful = set(reading.without_value)
    while True:
        configuration, left_out = None, 0
        try:
            configuration = Configuration.model_validate(values)
        except ValidationError as error:
            for item in error.errors(include_url=False, include_context=False):
                path = item["loc"]
                if not any(place[: len(path)] == path for place in doubtful):
                    _explain(path, item["type"], item["msg"], reading)
                left_out += _leave_out(values, path)
                if item["type"] != "extra_forbidden":
                    doubtful.add(path)
        while reading.without_value:
            left_out += _leave_out(values, reading.without_value.pop())
        if not left_out:
            return configuration


def _leave_out(values: dict[str, Any], path: tuple[str | int, ...]) -> bool:
    """Take a key out; of a list the whole, for the others of its items would be counted anew."""
    keys = list(itertools.takewhile(lambda part: isinstance(part, str), path))
    target: Any = values
    for part in keys[:-1]:
        target = target.get(part) if isinstance(target, dict) else None
    if not keys or not isinstance(target, dict) or keys[-1] not in target:
        return False
    del target[keys[-1]]
    return True


def _explain(path: tuple[str | int, ...], kind: str, message: str, reading: _Reading) -> None:
    if kind == "extra_forbidden":
        reading.fault(path, "unknown key" + _suggestion(path))
    else:
        message = message.removeprefix("Value error, ")
        reading.fault(path, message[:1].lower() + message[1:])


def _suggestion(path: tuple[str | int, ...]) -> str:
    section, name = path[:-1], str(path[-1])
    known = sorted({field_name for model in _models_at(section) for field_name in model.model_fields})
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f", did you mean '{_key((*section, close[0]))}'?" if close else ""
