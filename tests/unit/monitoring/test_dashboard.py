"""
The Grafana dashboard and the Prometheus alerts: they name metrics and labels that the server has, and Prometheus' own
tool takes them, where it is installed.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from pacs.monitoring.metrics import Metrics

CONFIG: Final = Path(__file__).parents[3] / "config" / "monitoring"
ALERTS: Final = CONFIG / "prometheus_alerts.yaml"
DASHBOARD: Final = CONFIG / "grafana_dashboard.json"
OF_PROMETHEUS: Final = {"up", "job", "instance", "le"}
needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="Debian's package prometheus has promtool")


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    asked = [target["expr"] for panel in panels() for target in panel["targets"]]
    return [*asked, *(rule["expr"] for rule in alerts())]


def samples() -> dict[str, set[str]]:
    """Give the labels of each sample that the server exports."""
    metrics = Metrics()
    metrics.dimse_request_served("C-STORE", 0, 0.1)
    metrics.http_request_served("GET", "/livez", 200, 0.1)
    metrics.batch_stored(1, 1, 0.1)
    metrics.access_denied_total.labels(operation="C-STORE").inc()
    metrics.associations_total.labels(result="accepted").inc()
    metrics.task_attempts_total.labels(kind="x", outcome="done").inc()
    metrics.component_health.labels(component="storage").set(1)
    metrics.queue_depth.labels(queue="commit").set(0)
    metrics.anonymized_instances.labels(profile="basic").inc()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(metrics.text().decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_asks_for_what_the_server_exports(expression: str) -> None:
    known = samples()
    names = re.findall(r"\b((?:pacs|process)_\w+|up)\b", expression)
    assert names
    for name in names:
        assert name in known or name == "up", f"nothing exports {name}"
    labels = {label for name in names for label in known.get(name, ())} | OF_PROMETHEUS
    asked = re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression)
    grouped = [word.strip() for by in re.findall(r"by \(([^)]*)\)", expression) for word in by.split(",")]
    assert {*asked, *grouped} <= labels


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    identifiers = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(identifiers)) == len(identifiers)
    for panel in panels():
        legends = [word for target in panel["targets"] for word in re.findall(r"{{(\w+)}}", target["legendFormat"])]
        assert set(legends) <= {*OF_PROMETHEUS, *(label for labels in samples().values() for label in labels)}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in alerts():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


@needs_promtool
def test_promtool_takes_every_expression(tmp_path: Path) -> None:
    subprocess.run(["promtool", "check", "rules", str(ALERTS)], check=True)
    rules = [
        {"record": f"dashboard:{index}", "expr": expression.replace("$__rate_interval", "5m")}
        for index, expression in enumerate(expressions())
    ]
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", str(path)], check=True)


@needs_promtool
def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    common = 'job="productionpacs", instance="a"'
    requests = "pacs_dimse_requests_total{" + common + ', operation="C-STORE", status='
    series = {
        "up{" + common + "}": "1x20 0x20",
        "pacs_component_health{" + common + ', component="storage"}': "1x20 0x20",
        "pacs_component_health{" + common + ', component="audit"}': "1x60",
        requests + '"0000"}': "0+600x60",
        requests + '"A700"}': "0x20 0+60x40",
        "pacs_tls_certificate_expiry_timestamp_seconds{" + common + "}": "1e9x200",
        "pacs_access_denied_total{" + common + ', operation="C-STORE"}': "0x20 0+10x40",
    }
    expected = {"PACSDown": 30, "PACSUnhealthy": 30, "PACSStoresFail": 40, "PACSAccessDenied": 35}
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": name, "values": values} for name, values in series.items()],
            "alert_rule_test": [
                {"eval_time": f"{minute}m", "alertname": rule["alert"], "exp_alerts": _expected(rule, minute, at)}
                for rule in alerts()
                for at in [expected.get(rule["alert"])]
                for minute in (15, *([at] if at else []))
            ],
        }
    ]
    path = tmp_path / "tests.yaml"
    path.write_text(
        yaml.safe_dump({"rule_files": [str(ALERTS)], "evaluation_interval": "1m", "tests": tests}, sort_keys=False)
    )
    ended = subprocess.run(["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def _expected(rule: dict[str, Any], minute: int, at: int | None) -> list[dict[str, Any]]:
    if minute != at:
        return []
    labels = {"instance": "a", **rule["labels"]}
    for label, value in {"job": "productionpacs", "component": "storage", "operation": "C-STORE"}.items():
        if f"{label} " in _kept(rule["expr"]):
            labels[label] = value
    values = dict(labels)
    annotations = {
        name: re.sub(r"{{ \$labels\.(\w+) }}", lambda match: str(values.get(match[1], "")), text)
        for name, text in rule["annotations"].items()
    }
    return [{"exp_labels": labels, "exp_annotations": annotations}]


def _kept(expression: str) -> str:
    """Give the labels that an expression keeps, each with a space behind it."""
    by = re.search(r"by \(([^)]*)\)", expression)
    if by is not None:
        return " ".join(word.strip() for word in by[1].split(",")) + " "
    return "job component " if "component_health" in expression else "job "
