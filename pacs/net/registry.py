"""
Which connections there are: counted by peer and by address for the acceptor's limits, listed for the operator, and
looked at each second for those that have been silent for too long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

from pacs.net.association import Association

CHECK_INTERVAL_S: Final = 1.0


class Connection(Protocol):
    """What the registry needs of a connection."""

    association: Association | None
    peer_address: str

    def check_times(self, now_s: float) -> None: ...

    def drop(self) -> None: ...


class AssociationRegistry:
    """All connections of this process, half-open ones included."""

    def __init__(self, *, clock: IReactorTime) -> None:
        self._clock = clock
        self._half_open: dict[Connection, str] = {}  # with the address, oldest first
        self._established: dict[str, Connection] = {}
        self._since_s: dict[str, float] = {}
        self._by_peer: Counter[str] = Counter()
        self._by_address: Counter[str] = Counter()
        self._watch = LoopingCall(self._check_times)
        self._watch.clock = clock

    def start(self) -> None:
        """Begin to watch the connections' times."""
        self._watch.start(CHECK_INTERVAL_S, now=False)

    def stop(self) -> None:
        """Watch no longer."""
        if self._watch.running:
            self._watch.stop()

    @property
    def half_open_count(self) -> int:
        """Connections that have not associated yet."""
        return len(self._half_open)

    def __len__(self) -> int:
        return len(self._established)

    def __iter__(self) -> Iterator[Association]:
        return iter([c.association for c in self._established.values() if c.association is not None])

    def age_s(self, association: Association) -> float:
        """Give how long an association has been there."""
        now_s = self._clock.seconds()
        return now_s - self._since_s.get(association.association_id, now_s)

    def connections(self) -> list[Connection]:
        """All of them, half-open ones first."""
        return [*self._half_open, *self._established.values()]

    def of_peer(self, calling_ae_title: str) -> int:
        """How many associations the AE title has."""
        return self._by_peer[calling_ae_title]

    def of_address(self, address: str) -> int:
        """How many associations come from the address."""
        return self._by_address[address]

    def opened(self, connection: Connection) -> None:
        """A transport connection was accepted."""
        self._half_open[connection] = connection.peer_address

    def established(self, connection: Connection, association: Association) -> None:
        """The connection became an association."""
        self._half_open.pop(connection, None)
        self._established[association.association_id] = connection
        self._since_s[association.association_id] = self._clock.seconds()
        self._by_peer[association.calling_ae_title] += 1
        self._by_address[association.peer_address] += 1

    def drop_half_open(self) -> str:
        """
        Make room: drop the oldest connection that has not associated, of the address that has most of them.

        Whoever opens connections and says nothing displaces itself, not those who do associate (RELIABILITY L9).

        Returns:
            the address.
        """
        address, _ = Counter(self._half_open.values()).most_common(1)[0]
        oldest = next(connection for connection, of in self._half_open.items() if of == address)
        del self._half_open[oldest]
        oldest.drop()
        return address

    def closed(self, connection: Connection) -> None:
        """The transport is gone."""
        self._half_open.pop(connection, None)
        association = connection.association
        if association is None or self._established.pop(association.association_id, None) is None:
            return
        self._since_s.pop(association.association_id, None)
        for counter, key in (
            (self._by_peer, association.calling_ae_title),
            (self._by_address, association.peer_address),
        ):
            counter[key] -= 1
            if counter[key] <= 0:
                del counter[key]

    def _check_times(self) -> None:
        now_s = self._clock.seconds()
        for connection in self.connections():
            connection.check_times(now_s)
