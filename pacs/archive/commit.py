"""
Group commit: whatever waits is the next batch, made durable by one sync and answered all at once. No timer: while one
batch syncs, the next gathers. Who commits depends on how the disk is, and on how many senders there are:

An object that arrives alone on a disk that answers at once is committed where it is, in the reactor's thread: two
switches of threads would take as long as the sync of a short one itself, and a fifth of that of a long one.

When several senders store on such a disk, the reactor's thread prepares a batch, and another thread completes it. All
that is done in Python stays with the one thread: two that take turns at the interpreter, at each call of the operating
system, need two thirds more of the processor than one.

All else is the commit thread's: a disk that is slow or has failed, objects of which the archive has one already, and
whatever else wants to write the index. Who writes it has the turn.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from pacs.archive.arrivals import Arrivals
from pacs.archive.candidate import Candidate
from pacs.archive.errors import ArchiveBusy, ArchiveClosed
from pacs.archive.inbox import Inbox
from pacs.archive.index.writer import IndexWriter
from pacs.archive.interfaces import Stored
from pacs.archive.transaction import Answers, Job, Transaction, Transactions, Work

LARGEST_BATCH: Final = 512
LARGEST_FLIGHT: Final = 32  # the reactor's thread prepares so many in 3 ms
WAITING_OBJECTS: Final = 4096
OBJECTS_BETWEEN_LOOKS: Final = 128


def _nothing(writer: IndexWriter) -> None:
    """Have the commit thread make an empty batch."""


class CommitThread:
    """
    The one writer of the index and of final names.

    Args:
        transactions: the steps that whoever has the turn takes.
    """

    def __init__(self, *, transactions: Transactions, reactor: Any) -> None:
        self._transactions = transactions
        self._reactor = reactor
        self._inbox: Inbox[Answers | Transaction | None] = Inbox(reactor=reactor, deliver=self._deliver)
        self._queue: queue.SimpleQueue[Candidate | Work | None] = queue.SimpleQueue()
        self._postponed: list[Candidate] = []
        self._thread = threading.Thread(target=self._run_in_thread, name="pacs-commit", daemon=True)
        self._is_settled = False
        self._is_closed = False
        self._is_ending = False
        self._turn = threading.Lock()  # who has it writes the index
        self._thread_wants_turn = False
        self._gathered: list[Candidate] = []  # the next batch that flies
        self._is_called = False
        self._flights: queue.SimpleQueue[Transaction | None] = queue.SimpleQueue()
        self._flight_thread = threading.Thread(target=self._complete_in_thread, name="pacs-flight", daemon=True)
        self._landed: Deferred[None] | None = None  # while a batch flies: fires at its end
        self._since_look = 0
        self.waiting = 0
        self.arrivals = Arrivals()

    def start(self) -> None:
        """Begin to commit; called by the reactor's thread."""
        self._inbox.start()
        self._transactions.start()
        self._flight_thread.start()
        self._thread.start()

    async def settle(self) -> None:
        """Leave everything to the thread from now on: its `stop` is to follow."""
        self._is_settled = True
        self._leave_to_thread()
        if self._landed is not None:
            await self._landed

    def stop(self) -> None:
        """Commit what waits, then end; blocks until that is done. `answer_last` is to follow."""
        self._is_closed = True
        self._queue.put(None)
        self._thread.join()
        self._flights.put(None)
        self._flight_thread.join()
        self._transactions.stop()

    def answer_last(self) -> None:
        """Give the last answers; called by the reactor's thread."""
        self._inbox.stop()

    @property
    def last_batch_s(self) -> float:
        """When something was last made durable, on the monotonic clock."""
        return self._transactions.last_s

    # -- the reactor's side

    def submit(self, candidate: Candidate) -> Deferred[Stored]:
        """
        Join the next batch.

        Returns:
            fires when the object is durable; fails with an `ArchiveError`.

        Raises:
            ArchiveBusy: too many wait.
        """
        if self._is_closed:
            raise ArchiveClosed("the server is shutting down")
        if self.waiting >= WAITING_OBJECTS:
            raise ArchiveBusy("too many objects wait to be stored")
        self.waiting += 1
        if self.waiting == 1 and self._may_commit_one() and self._commit_here(candidate):
            return candidate.answer
        if self._is_settled or not (candidate.incoming_path and self._transactions.is_fast):
            self._queue.put(candidate)
        else:
            self._gathered.append(candidate)
            if not self._is_called and self._landed is None:
                self._is_called = True
                self._reactor.callLater(0, self._fly)
        return candidate.answer

    def run(self, job: Job, *, is_durable: bool = False) -> Deferred[None]:
        """
        Have the index written by a function, in the next batch's transaction; it must not raise.

        Args:
            is_durable: the Deferred fires when what it wrote would survive a power cut. The log is synced with the
                commit: when that fails, nothing of the batch remains.
        """
        done: Deferred[None] = Deferred()
        self._queue.put(Work(job, done, is_durable))
        return done

    def takes_one(self) -> bool:
        """Whether an object would be committed by itself now: a short one needs no file before."""
        return self.waiting == 0 and self._may_commit_one()

    def _may_commit_one(self) -> bool:
        return self._transactions.is_fast and not self._is_settled and not self.arrivals.are_several()

    def _commit_here(self, candidate: Candidate) -> bool:
        """Commit one object in the reactor's thread, if the commit thread has nothing to do."""
        if not self._turn.acquire(blocking=False):
            return False
        try:
            transaction = self._prepare([candidate])
            self._transactions.complete(transaction)
            self._conclude(transaction, self._answer)
        finally:
            self._turn.release()
        return True

    def _fly(self, *, is_second_try: bool = False) -> None:
        """Prepare the next batch, if nobody else has the turn or wants it; another thread completes it."""
        self._is_called = False
        if self._landed is not None:
            return
        if not self._transactions.is_fast:
            self._leave_to_thread()
        if not self._gathered:
            return
        if self._thread_wants_turn or not self._turn.acquire(blocking=False):
            if is_second_try:
                self._leave_to_thread()  # it has that much to do: they ride with it
            return
        candidates, self._gathered = self._gathered[:LARGEST_FLIGHT], self._gathered[LARGEST_FLIGHT:]
        transaction = self._prepare(candidates)
        self._landed = Deferred()
        self._flights.put(transaction)

    def _complete_in_thread(self) -> None:
        while (transaction := self._flights.get()) is not None:
            self._transactions.complete(transaction)
            self._inbox.put(transaction)

    def _land(self, transaction: Transaction) -> None:
        landed, self._landed = self._landed, None
        try:
            self._gathered[:0] = self._conclude(transaction, self._answer)
        finally:
            self._turn.release()
        if self._is_settled:
            self._leave_to_thread()
        self._fly()
        if landed is not None:
            landed.callback(None)

    def _prepare(self, candidates: list[Candidate]) -> Transaction:
        """Prepare a batch in the reactor's thread; what the archive may have already is the other one's."""
        transaction = self._transactions.prepare(candidates, leaves_known=True)
        for candidate in transaction.batch.known:
            self._queue.put(candidate)
        return transaction

    def _leave_to_thread(self) -> None:
        gathered, self._gathered = self._gathered, []
        for candidate in gathered:
            self._queue.put(candidate)

    def _deliver(self, item: Answers | Transaction | None) -> None:
        if item is None:
            self._fly(is_second_try=True)
        elif isinstance(item, Transaction):
            self._land(item)
        else:
            self._answer(item)

    def _answer(self, answers: Answers) -> None:
        for deferred, result in answers:
            if isinstance(result, Exception):
                deferred.errback(Failure(result))
            else:
                deferred.callback(result)

    # -- whoever has the turn

    def _conclude(self, transaction: Transaction, reply: Callable[[Answers], None]) -> list[Candidate]:
        """Answer a batch; give what must wait for the next one."""
        answers = self._transactions.conclude(transaction)
        self.waiting -= len(answers) - len(transaction.jobs)
        reply(answers)
        self._transactions.publish(transaction)
        self._since_look += len(answers)
        if self._since_look >= OBJECTS_BETWEEN_LOOKS and not transaction.jobs:
            self.run(_nothing).addErrback(lambda _: None)  # the thread looks at the log, and tells what fails
        return transaction.batch.postponed if transaction.failure is None else []

    # -- the thread

    def _run_in_thread(self) -> None:
        transactions = self._transactions
        while True:
            candidates, self._postponed = self._postponed, []
            jobs: list[Work] = []
            self._gather(candidates, jobs)
            if candidates or jobs:
                self._thread_wants_turn = True
                with self._turn:
                    self._thread_wants_turn = False
                    transaction = transactions.prepare(candidates, jobs)
                    transactions.complete(transaction)
                    self._postponed = self._conclude(transaction, self._inbox.put)
                    transactions.look_at_log()
                    self._since_look = 0
                if self._gathered:
                    self._inbox.put(None)  # they wait for the turn
            if self._is_ending and not self._postponed and self._queue.empty():
                transactions.checkpoint()
                return

    def _gather(self, candidates: list[Candidate], jobs: list[Work]) -> None:
        """Take whatever waits; wait only when nothing does."""
        waits = not candidates
        while len(candidates) + len(jobs) < LARGEST_BATCH:
            try:
                item = self._queue.get(block=waits)
            except queue.Empty:
                break
            waits = False
            if item is None:
                self._is_ending = True
                return
            if isinstance(item, Candidate):
                candidates.append(item)
            else:
                jobs.append(item)
