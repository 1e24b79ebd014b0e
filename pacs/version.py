"""The version of this program; setup.cfg reads it from here."""

from typing import Final

__version__: Final = "0.1.0"
IMPLEMENTATION_VERSION_NAME: Final = "PRODPACS_010"
