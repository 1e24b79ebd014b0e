"""
The metrics of the server: one object, one registry, no globals. No label bears patient data or an unbounded value.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from pacs.monitoring.counts import DIMSERequests, HTTPRequests, Ingest


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
        self.connections_held_total = Counter(
            "pacs_connections_held_total", "Connections that had to wait: their address flooded us.", registry=registry
        )
        self.tls_handshakes_refused_total = Counter(
            "pacs_tls_handshakes_refused_total", "Connections that did not become TLS connections.", registry=registry
        )
        self.tls_certificate_expiry_seconds = Gauge(
            "pacs_tls_certificate_expiry_timestamp_seconds",
            "When our certificate expires.",
            registry=registry,
        )
        self._dimse_requests = DIMSERequests()
        registry.register(self._dimse_requests)
        self.dimse_request_served = self._dimse_requests.served
        self._http_requests = HTTPRequests()
        registry.register(self._http_requests)
        self.http_request_served = self._http_requests.served
        self._ingest = Ingest()
        registry.register(self._ingest)
        self.batch_stored = self._ingest.batch_stored
        self.query_results_total = Counter("pacs_query_results_total", "Matches given to queries.", registry=registry)
        self.retrieved_instances_total = Counter(
            "pacs_retrieved_instances_total", "Objects sent to whoever retrieved them.", registry=registry
        )
        self.deleted_instances_total = Counter("pacs_deleted_instances_total", "Objects deleted.", registry=registry)
        self.access_denied_total = Counter(
            "pacs_access_denied_total", "Requests beyond the caller's rights.", ["operation"], registry=registry
        )
        self.storage_free_bytes = Gauge(
            "pacs_storage_free_bytes", "Free space where objects are kept.", registry=registry
        )
        self.queue_depth = Gauge("pacs_queue_depth", "How much waits in a queue.", ["queue"], registry=registry)
        self.task_attempts_total = Counter(
            "pacs_task_attempts_total",
            "Attempts at tasks of the durable queue, by what became of them.",
            ["kind", "outcome"],
            registry=registry,
        )
        self.commitments_total = Counter(
            "pacs_commitments_total",
            "Requests for storage commitment by how they ended.",
            ["outcome"],
            registry=registry,
        )
        self.committed_instances_total = Counter(
            "pacs_committed_instances_total", "Objects that storage commitment was reported for.", registry=registry
        )
        self.component_health = Gauge(
            "pacs_component_health", "1 healthy, 0.5 degraded, 0 unhealthy.", ["component"], registry=registry
        )
        self.event_loop_lateness_seconds = Gauge(
            "pacs_event_loop_lateness_seconds", "How late the reactor was at its last look.", registry=registry
        )
        self.anonymized_instances = Counter(
            "pacs_anonymized_instances", "Objects de-identified and stored.", ["profile"], registry=registry
        )
        self._archive = {
            "patients": Gauge("pacs_archive_patients", "Patients kept.", registry=registry),
            "studies": Gauge("pacs_archive_studies", "Studies kept.", registry=registry),
            "series": Gauge("pacs_archive_series", "Series kept.", registry=registry),
            "instances": Gauge("pacs_archive_instances", "Objects kept.", registry=registry),
            "bytes": Gauge("pacs_archive_bytes", "Bytes of the objects kept.", registry=registry),
        }

    def archive_counted(self, counts: Mapping[str, int]) -> None:
        """Set the gauges of what the archive keeps; whoever gives the metrics has them counted before."""
        for name, gauge in self._archive.items():
            gauge.set(counts[name])

    def totals(self) -> dict[str, float]:
        """Give the sum of each counter over its labels."""
        totals: dict[str, float] = {}
        for metric in self.registry.collect():
            if metric.type == "counter" and metric.name.startswith("pacs_"):
                totals[f"{metric.name}_total"] = sum(s.value for s in metric.samples if s.name.endswith("_total"))
        return totals

    def text(self) -> bytes:
        """Give all of them in the Prometheus text format."""
        return generate_latest(self.registry)
