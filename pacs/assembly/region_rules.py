"""
The file of region rules, checked with the configuration: before anything starts.
"""

from __future__ import annotations

from pathlib import Path

from pacs.config import Configuration
from pacs.deidentification.regions import RegionRulesError, load_region_rules

__all__ = ["RegionRulesError", "check_region_rules"]


def check_region_rules(configuration: Configuration) -> None:
    """
    Read the file, if there is one.

    Raises:
        RegionRulesError: it can't be read, or is wrong.
    """
    path = configuration.security.anonymization.region_rules
    if path is not None:
        load_region_rules(Path(path))
