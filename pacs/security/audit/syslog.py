"""
Audit records as syslog messages: RFC 5424, as PS3.15 A.6 and A.7 want them, and how TLS frames them (RFC 5425).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from pacs.security.audit.records import Record

PRIORITY: Final = 10 * 8 + 5  # facility security/authorization, severity notice (PS3.15 A.6)
MESSAGE_ID: Final = "DICOM+RFC3881"
APPLICATION: Final = "productionpacs"
STRUCTURED_DATA_ID: Final = "chain@32473"  # RFC 5612's number, for there is none of our own
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class SyslogFormat:
    """
    The parts of the header that stay the same.

    Attributes:
        process_id: of the process that sends.
    """

    host: str
    process_id: str

    def encode(self, record: Record) -> bytes:
        """
        Give a record's message.

        Its structured data has the record's number and hash: every message tells the collector where the chain's head
        is, so that cutting the log off is seen there.
        """
        position = record.position
        header = (
            f"<{PRIORITY}>1 {record.time} {self.host} {APPLICATION} {self.process_id} {MESSAGE_ID}"
            f' [{STRUCTURED_DATA_ID} sequence="{position.sequence}" previous="{record.previous}"'
            f' sha256="{position.sha256}"] '
        )
        return header.encode("ascii", "replace") + BYTE_ORDER_MARK + record.message.encode()


def local_format(process_id: str) -> SyslogFormat:
    """Give the format for this host."""
    name = "".join(c for c in socket.gethostname() if 33 <= ord(c) <= 126)[:255]
    return SyslogFormat(name or "-", process_id)


def octet_counted(message: bytes) -> bytes:
    """Give a message as TLS transports it, RFC 5425 4.3."""
    return b"%d %b" % (len(message), message)
