"""
How the server is: status, probes, metrics, versions, counters and the configuration in effect.
"""

from __future__ import annotations

import platform
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from pacs.monitoring.health import HealthRegister
from pacs.monitoring.metrics import Metrics
from pacs.security.access import Operation
from pacs.version import IMPLEMENTATION_VERSION_NAME, __version__
from pacs.web.answers import Answer, one, plain
from pacs.web.errors import HTTPError
from pacs.web.routes import Call, Route

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_HEALTH: Final = {"enum": ["healthy", "degraded", "recovering", "unhealthy"]}
STATUS: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status", "uptime_seconds", "version", "components"],
    "properties": {
        "status": {"enum": ["healthy", "degraded", "unhealthy"]},
        "uptime_seconds": {"type": "number"},
        "version": {"type": "string"},
        "components": {"type": "object", "additionalProperties": _HEALTH},
    },
}
PROBE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": ["ok", "unavailable"]}},
}
_OBJECT: Final[dict[str, Any]] = {"type": "object"}


class SystemRoutes:
    """
    Answers for the server itself.

    Args:
        refresh: brings the gauges of the archive up to date; told before metrics and statistics are given.
        configuration: the effective one, secrets masked.
    """

    def __init__(
        self,
        *,
        health: HealthRegister,
        metrics: Metrics,
        refresh: Callable[[], Awaitable[Mapping[str, int]]],
        configuration: Mapping[str, Any],
        is_metrics_enabled: bool,
        uptime_s: Callable[[], float],
    ) -> None:
        self._health = health
        self._metrics = metrics
        self._refresh = refresh
        self._configuration = configuration
        self._is_metrics_enabled = is_metrics_enabled
        self._uptime_s = uptime_s

    def routes(self) -> tuple[Route, ...]:
        """Give this part of the table."""
        api = "/api/v1"
        found = [
            _public(path, self._status, "How the server and its parts are", STATUS, errors=(503,))
            for path in (f"{api}/system/status", f"{api}/health")
        ]
        found.append(_public("/livez", self._live, "The process answers", PROBE))
        found.append(_public("/readyz", self._ready, "It can serve", PROBE, errors=(503,)))
        if self._is_metrics_enabled:
            found += [
                _public(path, self._text, "Prometheus' text format", None, content_type="text/plain")
                for path in (f"{api}/system/metrics", "/metrics")
            ]
        for name, handler, operation, summary in (
            ("config", self._config, Operation.READ_CONFIGURATION, "The configuration in effect, secrets masked"),
            ("version", self._version, Operation.READ_STATUS, "Versions"),
            ("statistics", self._statistics, Operation.READ_STATISTICS, "Counters as JSON"),
        ):
            found.append(Route("GET", f"{api}/system/{name}", operation, handler, summary, "system", answer=_OBJECT))
        return tuple(found)

    async def _status(self, _: Call) -> Answer:
        status = self._health.overall()
        value = {
            "status": status,
            "uptime_seconds": round(self._uptime_s(), 3),
            "version": __version__,
            "components": self._health.components(),
        }
        headers = {"Retry-After": "30"} if status == "unhealthy" else {}
        return plain(value, status=503 if headers else 200, headers=headers)

    async def _live(self, _: Call) -> Answer:
        return plain({"status": "ok"})

    async def _ready(self, _: Call) -> Answer:
        if self._health.overall() == "unhealthy":
            return plain({"status": "unavailable"}, status=503, headers={"Retry-After": "30"})
        return plain({"status": "ok"})

    async def _text(self, _: Call) -> Answer:
        await self._refresh()
        return Answer(self._metrics.text(), content_type=METRICS_TYPE)

    async def _config(self, _: Call) -> Answer:
        return one(self._configuration)

    async def _version(self, _: Call) -> Answer:
        return one(
            {
                "version": __version__,
                "implementation_version_name": IMPLEMENTATION_VERSION_NAME,
                "python": platform.python_version(),
            }
        )

    async def _statistics(self, _: Call) -> Answer:
        archive = await self._refresh()
        if not archive:
            raise HTTPError(503, "the index does not answer", headers={"Retry-After": "30"})
        return plain(
            {"archive": archive, "counters": self._metrics.totals(), "uptime_seconds": round(self._uptime_s(), 3)}
        )


def _public(
    path: str,
    handler: Any,
    summary: str,
    answer: Any,
    *,
    errors: tuple[int, ...] = (),
    content_type: str = "application/json",
) -> Route:
    return Route("GET", path, None, handler, summary, "system", answer=answer, errors=errors, content_type=content_type)
