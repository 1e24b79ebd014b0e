"""
The metrics of the server: one object, one registry, no globals. No label bears patient data or an unbounded value.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_INSTANCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class DIMSERequests(Collector):
    """
    Counts DIMSE requests, by the reactor's thread alone: a tenth of what the client library's own metrics cost, and
    it is paid with each request.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[str, int], int] = {}
        self._durations: dict[str, list[int]] = {}
        self._sums_s: dict[str, float] = {}

    def served(self, operation: str, status: int, duration_s: float) -> None:
        """Count one request by its final status."""
        try:
            self._counts[operation, status] += 1
            self._sums_s[operation] += duration_s
        except KeyError:
            self._counts[operation, status] = 1
            self._sums_s[operation] = self._sums_s.get(operation, 0.0) + duration_s
            self._durations.setdefault(operation, [0] * (len(_SECONDS) + 1))
        self._durations[operation][bisect_left(_SECONDS, duration_s)] += 1

    def collect(self) -> Iterator[Metric]:
        """Give the metrics as the client library wants them."""
        total = CounterMetricFamily(
            "pacs_dimse_requests_total", "DIMSE requests served.", labels=["operation", "status"]
        )
        for (operation, status), count in list(self._counts.items()):
            total.add_metric([operation, f"{status:04X}"], count)
        yield total
        seconds = HistogramMetricFamily(
            "pacs_dimse_request_seconds", "Time from the command to the final response.", labels=["operation"]
        )
        for operation, counts in list(self._durations.items()):
            buckets: list[tuple[str, float]] = []
            reached = 0
            for bound, count in zip((*map(str, _SECONDS), "+Inf"), list(counts), strict=True):
                reached += count
                buckets.append((bound, reached))
            seconds.add_metric([operation], buckets, self._sums_s[operation])
        yield seconds


class Metrics:
    """
    Everything that is counted, by the names of the contract.

    Attributes:
        registry: for whoever serves it.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        registry = self.registry
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.associations_active = Gauge("pacs_associations_active", "Established associations.", registry=registry)
        self.associations_total = Counter(
            "pacs_associations_total", "Associations by how they began or failed to.", ["result"], registry=registry
        )
        self._dimse_requests = DIMSERequests()
        registry.register(self._dimse_requests)
        self.dimse_request_served = self._dimse_requests.served
        self.stored_instances_total = Counter("pacs_stored_instances_total", "Objects stored.", registry=registry)
        self.stored_bytes_total = Counter("pacs_stored_bytes_total", "Bytes stored.", registry=registry)
        self.ingest_commit_seconds = Histogram(
            "pacs_ingest_commit_seconds", "Time of a group commit.", buckets=_SECONDS, registry=registry
        )
        self.ingest_batch_instances = Histogram(
            "pacs_ingest_batch_instances", "Objects of a group commit.", buckets=_BATCH_INSTANCES, registry=registry
        )
        self.query_results_total = Counter("pacs_query_results_total", "Matches given to queries.", registry=registry)
        self.retrieved_instances_total = Counter(
            "pacs_retrieved_instances_total", "Objects sent to whoever retrieved them.", registry=registry
        )
        self.access_denied_total = Counter(
            "pacs_access_denied_total", "Requests beyond the caller's rights.", ["operation"], registry=registry
        )
        self.storage_free_bytes = Gauge(
            "pacs_storage_free_bytes", "Free space where objects are kept.", registry=registry
        )
        self.component_health = Gauge(
            "pacs_component_health", "1 healthy, 0.5 degraded, 0 unhealthy.", ["component"], registry=registry
        )
        self.event_loop_lateness_seconds = Gauge(
            "pacs_event_loop_lateness_seconds", "How late the reactor was at its last look.", registry=registry
        )
        self.archive_patients = Gauge("pacs_archive_patients", "Patients kept.", registry=registry)
        self.archive_studies = Gauge("pacs_archive_studies", "Studies kept.", registry=registry)
        self.archive_series = Gauge("pacs_archive_series", "Series kept.", registry=registry)
        self.archive_instances = Gauge("pacs_archive_instances", "Objects kept.", registry=registry)
        self.archive_bytes = Gauge("pacs_archive_bytes", "Bytes of the objects kept.", registry=registry)

    def text(self) -> bytes:
        """Give all of them in the Prometheus text format."""
        return generate_latest(self.registry)
