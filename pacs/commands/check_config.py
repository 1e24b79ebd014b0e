"""
`pacsctl check-config`: is the configuration good, and what is in effect?
"""

from __future__ import annotations

from pathlib import Path

import click
import yaml

from pacs.assembly.region_rules import check_region_rules
from pacs.command import Call
from pacs.config import ConfigurationError


@click.command("check-config")
def command(config: Path | None, wants_json: bool) -> None:
    """Check the configuration; print what is in effect, secrets masked."""
    call = Call(config, wants_json)
    loaded = call.loaded()
    try:
        check_region_rules(loaded)
    except ConfigurationError as error:
        call.fail(str(error))
    effective = loaded.configuration.masked()
    call.tell(yaml.safe_dump(effective, sort_keys=False).rstrip(), **effective)
