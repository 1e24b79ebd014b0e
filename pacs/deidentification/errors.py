"""
Why an object is not de-identified. No message of these has a value of the data set in it, ever.
"""

from __future__ import annotations


class DeidentificationError(Exception):
    """
    The object is refused: nothing of it is stored or written.

    Attributes:
        rule: what refused it, one of a closed set of names.
        tag: of the attribute concerned, or None.
    """

    def __init__(self, rule: str, reason: str, tag: int | None = None) -> None:
        where = "" if tag is None else f" at ({tag >> 16:04X},{tag & 0xFFFF:04X})"
        super().__init__(f"{rule}: {reason}{where}")
        self.rule = rule
        self.reason = reason
        self.tag = tag

    def __reduce__(self) -> tuple[type[DeidentificationError], tuple[str, str, int | None]]:
        return type(self), (self.rule, self.reason, self.tag)


class NotDeidentifiable(DeidentificationError):
    """It can't be read, or a rule says that objects like it are not released."""


class VerificationFailed(DeidentificationError):
    """The verifier found in the output what must not be there."""


class VaultError(Exception):
    """The vault is missing, unreadable, or not this archive's; nothing is de-identified."""
