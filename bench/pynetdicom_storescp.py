"""
pynetdicom's storescp, with its own handler, and as many associations as are asked for (its command has no option).
"""

from __future__ import annotations

import logging
import sys
from argparse import Namespace
from typing import Any

from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.apps.common import handle_store
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]


def main(port: int, directory: str) -> None:
    """Serve until killed."""
    arguments = Namespace(output_directory=directory, ignore=False)
    entity = AE()
    entity.maximum_associations = 100
    for context in AllStoragePresentationContexts:
        entity.add_supported_context(str(context.abstract_syntax), ALL_TRANSFER_SYNTAXES)
    entity.add_supported_context(Verification, ALL_TRANSFER_SYNTAXES)
    handlers: list[Any] = [(evt.EVT_C_STORE, handle_store, [arguments, logging.getLogger("pynetdicom")])]
    entity.start_server(("127.0.0.1", port), block=True, evt_handlers=handlers)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
