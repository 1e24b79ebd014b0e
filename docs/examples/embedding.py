"""
A program with an archive in it: python embedding.py pacs.yaml
"""

from __future__ import annotations

import sys

from twisted.internet import reactor
from twisted.internet.threads import deferToThread

from pacs.embedding import ProductionPACS
from pacs.events import AccessDenied, AssociationEvent, ImageReceived, QueryExecuted


def analyze(sop_instance_uid: str) -> int:
    """Stand for something that takes its time; it runs in a thread."""
    return len(sop_instance_uid)


async def image_received(event: ImageReceived) -> None:
    """An object is durable."""
    result = await deferToThread(analyze, event.sop_instance_uid)
    print(f"image {event.sop_instance_uid}, {event.size_bytes} bytes, from {event.calling_ae}: {result}", flush=True)


def query_executed(event: QueryExecuted) -> None:
    """A query was answered."""
    print(f"query of {event.calling_ae}: {event.result_count} results", flush=True)


def association_event(event: AssociationEvent) -> None:
    """An association was opened, closed or rejected."""
    print(f"{event.wire_name()} {event.calling_ae} {event.reason}".rstrip(), flush=True)


def access_denied(event: AccessDenied) -> None:
    """A right was missing."""
    print(f"{event.operation} of {event.calling_ae} denied", flush=True)


def main() -> None:
    """Run the archive."""
    pacs = ProductionPACS.from_file(sys.argv[1], reactor=reactor)
    pacs.on_image_received(image_received)
    pacs.on_query_executed(query_executed)
    pacs.on_association_event(association_event)
    pacs.on_access_denied(access_denied)
    pacs.run()


if __name__ == "__main__":
    main()
