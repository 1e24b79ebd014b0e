"""
Counts of what happens with each request and each object: plain numbers, made into metrics when somebody asks.

The client library's own counters and histograms take locks and look labels up; here they would be a tenth of the work.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_INSTANCES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)


class Distribution:
    """How often values fell below each of some bounds; counted by one thread at a time."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def add_to(self, family: HistogramMetricFamily, labels: list[str]) -> None:
        """Add it to a metric."""
        buckets: list[tuple[str, float]] = []
        reached = 0
        for bound, count in zip((*map(str, self._bounds), "+Inf"), list(self._counts), strict=True):
            reached += count
            buckets.append((bound, reached))
        family.add_metric(labels, buckets, self._sum)


class DIMSERequests(Collector):
    """Counts DIMSE requests; the reactor's thread alone calls it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[str, Distribution] = {}

    def served(self, operation: str, status: int, duration_s: float) -> None:
        """Count one request by its final status."""
        try:
            self._counts[operation, status] += 1
        except KeyError:
            self._counts[operation, status] = 1
            self._durations.setdefault(operation, Distribution(SECONDS))
        self._durations[operation].add(duration_s)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        total = CounterMetricFamily(
            "pacs_dimse_requests_total", "DIMSE requests served.", labels=["operation", "status"]
        )
        for (operation, status), count in list(self._counts.items()):
            total.add_metric([operation, f"{status:04X}"], count)
        yield total
        seconds = HistogramMetricFamily(
            "pacs_dimse_request_seconds", "Time from the command to the final response.", labels=["operation"]
        )
        for operation, durations in list(self._durations.items()):
            durations.add_to(seconds, [operation])
        yield seconds


class HTTPRequests(Collector):
    """Counts HTTP requests; the reactor's thread alone calls it."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], int] = {}
        self._durations: dict[tuple[str, str], Distribution] = {}

    def served(self, method: str, route: str, code: int, duration_s: float) -> None:
        """Count one request by the template of its path and its status."""
        try:
            self._counts[method, route, code] += 1
        except KeyError:
            self._counts[method, route, code] = 1
            self._durations.setdefault((method, route), Distribution(SECONDS))
        self._durations[method, route].add(duration_s)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        total = CounterMetricFamily(
            "pacs_http_requests_total", "HTTP requests answered.", labels=["method", "route", "code"]
        )
        for (method, route, code), count in list(self._counts.items()):
            total.add_metric([method, route, str(code)], count)
        yield total
        seconds = HistogramMetricFamily(
            "pacs_http_request_seconds",
            "Time from a request's headers to its answer's end.",
            labels=["method", "route"],
        )
        for labels, durations in list(self._durations.items()):
            durations.add_to(seconds, list(labels))
        yield seconds


class Ingest(Collector):
    """Counts batches of stored objects; called by whoever has just committed one."""

    def __init__(self) -> None:
        self._instances = 0
        self._bytes = 0
        self._seconds = Distribution(SECONDS)
        self._sizes = Distribution(BATCH_INSTANCES)

    def batch_stored(self, instances: int, size_bytes: int, duration_s: float) -> None:
        """Count a group commit."""
        self._instances += instances
        self._bytes += size_bytes
        self._seconds.add(duration_s)
        self._sizes.add(instances)

    def collect(self) -> Iterator[Metric]:
        """Give the metrics."""
        yield CounterMetricFamily("pacs_stored_instances_total", "Objects stored.", value=self._instances)
        yield CounterMetricFamily("pacs_stored_bytes_total", "Bytes stored.", value=self._bytes)
        for name, documentation, distribution in (
            ("pacs_ingest_commit_seconds", "Time of a group commit.", self._seconds),
            ("pacs_ingest_batch_instances", "Objects of a group commit.", self._sizes),
        ):
            family = HistogramMetricFamily(name, documentation, labels=[])
            distribution.add_to(family, [])
            yield family
