"""
The audit log: who did what with whose data (PS3.15 A.5), in a file that shows when somebody changed it.
"""

from pacs.security.audit.codes import AlertKind, Outcome
from pacs.security.audit.log import AuditLog
from pacs.security.audit.records import AuditKeyError
from pacs.security.audit.writer import AuditSettings

__all__ = ["AlertKind", "AuditKeyError", "AuditLog", "AuditSettings", "Outcome"]
