"""
The five profiles: which options of PS3.15 each combines, and what its output says of itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pacs.deidentification.tables import EDITION, Profile

BASIC_CODE: Final = "113100"
CLEAN_PIXELS_CODE: Final = "113101"
MODIFIED_DATES_CODE: Final = "113107"
PATIENT_CHARACTERISTICS_CODE: Final = "113108"
DEVICE_IDENTITY_CODE: Final = "113109"
RETAIN_UIDS_CODE: Final = "113110"

_OPTIONS: Final[Mapping[Profile, tuple[str, ...]]] = {
    Profile.BASIC: (),
    Profile.HIPAA_SAFE_HARBOR: (MODIFIED_DATES_CODE, PATIENT_CHARACTERISTICS_CODE),
    Profile.RETAIN_LONGITUDINAL: (MODIFIED_DATES_CODE,),
    Profile.RETAIN_DEVICE_IDENTITY: (DEVICE_IDENTITY_CODE,),
    Profile.GDPR: (),
}
_TEXTS: Final[Mapping[Profile, str]] = {
    Profile.BASIC: "identifiers removed",
    Profile.HIPAA_SAFE_HARBOR: "identifiers of 45 CFR 164.514(b)(2) removed",
    Profile.RETAIN_LONGITUDINAL: "identifiers removed, dates shifted",
    Profile.RETAIN_DEVICE_IDENTITY: "identifiers removed, devices kept",
    Profile.GDPR: "pseudonymised, key held apart",
}
_OWN_METHOD: Final = re.compile(rf"DICOM PS3\.15 \S+ Annex E: ({'|'.join(profile.value for profile in Profile)})")
# what is done with dates that the table does not list, and with those of the Modified Dates Option
_DATES: Final[Mapping[Profile, str]] = {
    Profile.HIPAA_SAFE_HARBOR: "C:year",
    Profile.RETAIN_LONGITUDINAL: "C:shift",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """
    A profile with what the operator chose beside it.

    Attributes:
        uids: `keep`, `map`, or None: the profile decides.
        burned_in: `reject`, `clean` or `accept`.
    """

    profile: Profile = Profile.BASIC
    uids: str | None = None
    burned_in: str = "reject"

    @property
    def maps_uids(self) -> bool:
        """Whether UIDs of instances are replaced."""
        if self.uids is None:
            return self.profile is not Profile.RETAIN_LONGITUDINAL
        return self.uids == "map"

    @property
    def date_action(self) -> str:
        """What is done with dates that the table does not list."""
        return _DATES.get(self.profile, "D")

    @property
    def temporal_information(self) -> str:
        """Longitudinal Temporal Information Modified."""
        return "MODIFIED" if self.profile in _DATES else "REMOVED"

    def codes(self, *, pixels_cleaned: bool) -> tuple[str, ...]:
        """Give the codes of CID 7050 of what was done."""
        codes = (BASIC_CODE, *((CLEAN_PIXELS_CODE,) if pixels_cleaned else ()), *_OPTIONS[self.profile])
        return codes if self.maps_uids else (*codes, RETAIN_UIDS_CODE)

    @property
    def method_texts(self) -> tuple[str, str]:
        """De-identification Method: two values of at most 64 characters."""
        return f"DICOM PS3.15 {EDITION} Annex E: {self.profile.value}", _TEXTS[self.profile]

    @property
    def warning(self) -> str | None:
        """What an operator should be told about the combination."""
        if self.maps_uids or self.profile is Profile.RETAIN_LONGITUDINAL:
            return None
        if self.profile is Profile.HIPAA_SAFE_HARBOR:
            return "uids: keep with hipaa_safe_harbor is not Safe Harbor: UIDs are unique identifiers"
        if self.profile is Profile.GDPR:
            return "uids: keep with gdpr is not minimal: UIDs link to the originals"
        return None


def is_own_method(text: str) -> bool:
    """Whether a value of De-identification Method is one that this product writes, of whatever edition."""
    return _OWN_METHOD.fullmatch(text.strip()) is not None
