"""
The file of region rules, checked with the configuration: before anything starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pacs.config import ConfigurationError, Fault, Loaded

KEY: Final = ("security", "anonymization", "region_rules")


def check_region_rules(loaded: Loaded) -> None:
    """
    Read the file, if there is one.

    Raises:
        ConfigurationError: it can't be read, or is wrong.
    """
    path = loaded.configuration.security.anonymization.region_rules
    if path is None:
        return
    from pacs.deidentification.regions import RegionRulesError, load_region_rules  # with the transformer's codec

    try:
        load_region_rules(Path(path))
    except RegionRulesError as error:
        raise ConfigurationError([Fault(loaded.place(KEY), 0, ".".join(KEY), str(error))]) from None
