"""
A change of the index by a function, in the commit thread: all of it or nothing, and with it what the feed tells of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from pacs.archive.commit import CommitThread
from pacs.archive.feed import note_events
from pacs.archive.index.writer import IndexWriter
from pacs.events import Event

T = TypeVar("T")


async def change(
    commit: CommitThread,
    function: Callable[[IndexWriter], T],
    *,
    events: Callable[[T], Sequence[Event]] | None,
    is_durable: bool,
) -> T:
    """
    Change the index; what the function raises takes back what it did, and is raised here.

    Args:
        events: gives what is noted in the change feed; called in the commit thread.
        is_durable: wait until it would survive a power cut.

    Returns:
        what the function gave, when its changes are there.

    Raises:
        ArchiveError: the index can't be written.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def job(writer: IndexWriter) -> None:
        writer.flush()  # the batch's own rows are not taken back with a change that fails
        first_change_id = writer.next_change_id
        writer.execute("SAVEPOINT change")
        try:
            results.append(function(writer))
            if events is not None:
                note_events(writer, events(results[0]))
        except Exception as error:  # noqa: BLE001 - it is raised where the change was asked for
            errors.append(error)
            writer.drop_changes(first_change_id)
            writer.execute("ROLLBACK TO change")
            writer.forget()
        writer.execute("RELEASE change")

    await commit.run(job, is_durable=is_durable)
    if errors:
        raise errors[0]
    return results[0]
