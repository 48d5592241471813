"""The rules for Prometheus and the dashboard for Grafana, with the figures that we really serve."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from softcart_assets.ingestion.capture.job import Status
from softcart_assets.ingestion.capture.metrics import StreamCollector
from softcart_assets.inspire_app.sender import Figures
from softcart_assets.paths import REPOSITORY
from tests.support.promtool import promtool

RULES = REPOSITORY / "monitoring" / "prometheus"
DASHBOARD = REPOSITORY / "monitoring" / "grafana" / "streams.json"


def _check(*arguments: str) -> subprocess.CompletedProcess[str]:
    try:
        program = promtool()
    except (OSError, subprocess.CalledProcessError) as reason:
        pytest.skip(f"Prometheus' promtool cannot be had here: {reason}")
    return subprocess.run(
        [program, *arguments], cwd=RULES, capture_output=True, text=True, check=False
    )


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((RULES / "rules.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in _rules())
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def _served() -> dict[str, set[str]]:
    """The labels of every figure that streams and senders serve, by its name."""
    status = Status("shop")
    status.tables["orders"] = ("live", "")
    status.changes["orders", "insert"] = 1
    status.lag_bytes = 1
    streams = CollectorRegistry()
    streams.register(StreamCollector(status))
    figures = Figures()
    figures.backlog(1, 1.0)
    text = generate_latest(streams).decode() + generate_latest(figures.registry).decode()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
        # A counter of which nothing was counted yet has no sample.
        if family.type == "counter":
            found.setdefault(f"{family.name}_total", set())
    return found


def test_each_alert_fires_when_it_should() -> None:
    assert (tested := _check("test", "rules", "rules.test.yml")).returncode == 0, tested.stdout
    assert (checked := _check("check", "config", "prometheus.yml")).returncode == 0, checked.stderr
    cases = yaml.safe_load((RULES / "rules.test.yml").read_text())["tests"]
    fired = {
        each["alertname"]
        for case in cases
        for each in case["alert_rule_test"]
        if each.get("exp_alerts")
    }
    assert fired == {rule["alert"] for rule in _rules() if "alert" in rule}


def test_rules_and_dashboard_ask_for_figures_that_there_are() -> None:
    served, recorded = _served(), {rule["record"] for rule in _rules() if "record" in rule}
    asked = {name for each in _expressions() for name in re.findall(r"softcart[a-z0-9_:]+", each)}
    assert asked - recorded - served.keys() == set()
    # What is grouped by or filtered has to be a label of the figure.
    assert {"source", "table", "state"} <= served["softcart_table_state"]
    assert {"source", "operation"} <= served["softcart_stream_changes_total"]


def test_the_dashboard_is_valid(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{number}", "expr": each} for number, each in enumerate(_expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    assert (checked := _check("check", "rules", str(file))).returncode == 0, checked.stderr
    numbers = [panel["id"] for panel in json.loads(DASHBOARD.read_text())["panels"]]
    assert len(numbers) == len(set(numbers)) > 0


@pytest.mark.parametrize("broken", ["softcart_stream_up == ", "sum by (source softcart_up)"])
def test_a_mistake_is_found(broken: str, tmp_path: Path) -> None:
    file = tmp_path / "rules.yml"
    rule = {"record": "panel:1", "expr": broken}
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": [rule]}]}))
    assert _check("check", "rules", str(file)).returncode != 0
