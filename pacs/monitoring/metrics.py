"""
The metrics of the server: one object, one registry, no globals. No label bears patient data or an unbounded value.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCH_INSTANCES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


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
        self.dimse_requests_total = Counter(
            "pacs_dimse_requests_total", "DIMSE requests served.", ["operation", "status"], registry=registry
        )
        self.dimse_request_seconds = Histogram(
            "pacs_dimse_request_seconds",
            "Time from the command to the final response.",
            ["operation"],
            buckets=_SECONDS,
            registry=registry,
        )
        self.stored_instances_total = Counter("pacs_stored_instances_total", "Objects stored.", registry=registry)
        self.stored_bytes_total = Counter("pacs_stored_bytes_total", "Bytes stored.", registry=registry)
        self.ingest_commit_seconds = Histogram(
            "pacs_ingest_commit_seconds", "Time of a group commit.", buckets=_SECONDS, registry=registry
        )
        self.ingest_batch_instances = Histogram(
            "pacs_ingest_batch_instances", "Objects of a group commit.", buckets=_BATCH_INSTANCES, registry=registry
        )
        self.query_results_total = Counter("pacs_query_results_total", "Matches given to queries.", registry=registry)
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
        self._served = lru_cache(maxsize=256)(self._children)

    def _children(self, operation: str, status: int) -> tuple[Counter, Histogram]:
        return (
            self.dimse_requests_total.labels(operation=operation, status=f"{status:04X}"),
            self.dimse_request_seconds.labels(operation=operation),
        )

    def dimse_request_served(self, operation: str, status: int, duration_s: float) -> None:
        """Count one request by its final status."""
        counter, histogram = self._served(operation, status)
        counter.inc()
        histogram.observe(duration_s)

    def text(self) -> bytes:
        """Give all of them in the Prometheus text format."""
        return generate_latest(self.registry)
