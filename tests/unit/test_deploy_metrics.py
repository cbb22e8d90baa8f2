"""The dashboard and the alerts use only metrics and labels that exist, and the documentation names all of ours."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import ObjectId
from prometheus_client.core import Metric

from worker.api.http_metrics import HttpMetrics
from worker.flower.retry import RETRIES
from worker.metrics import families
from worker.metrics.gauges import BrokerGauges, ConsumerGroup, StoreGauges
from worker.metrics.outcome_groups import InFlight, Kind, Sums
from worker.metrics.outcomes import Outcomes
from worker.stores.counts import Totals
from worker.stores.stats import Identity
from worker.telemetry import counters

DEPLOY = Path(__file__).parents[2] / "deploy"
NOW = datetime(2026, 5, 18, 14, 30, tzinfo=UTC)

_WORDS = re.compile(
    "sum|max|min|avg|count|by|without|on|ignoring|and|or|unless|offset|rate|increase|histogram_quantile|absent|clamp_min"
)
_OF_PROMETHEUS = frozenset({"instance", "job", "pod", "le"})
"""Labels that Prometheus adds, and the label of buckets."""


def every_metric() -> Iterator[Metric]:
    high_water = families.HighWater()
    finished = {Kind("api", status, "code", True, 1): Sums(1, 1.0) for status in ("completed", "failed")}
    yield from families.of_outcomes(Outcomes(NOW, finished, {"api": InFlight(1, since=NOW)}), high_water)
    yield from families.of_rejections({("stream", "invalid_request"): 1}, high_water)
    group = ConsumerGroup(1, 1, NOW)
    yield from families.of_broker(
        BrokerGauges(NOW, {"snapshots": 1}, {"snapshots": NOW}, 1, 1, 1, 1, group, {"g": group})
    )
    yield from families.of_store(StoreGauges(NOW, 1, NOW, {"empty": 1}, NOW))
    yield from families.of_totals(Totals([Identity(ObjectId())], NOW), high_water)
    yield families.of_servers(mongo=True, redis=True)
    measures = HttpMetrics()
    measures.answered("GET", "/healthz", 200, 0.1)
    measures.logged_in("link", "opened")
    yield from measures.registry.collect()
    RETRIES.labels("retried").inc(0)
    yield from RETRIES.collect()
    counters.LOST.inc(0)
    for each in counters.ALL:
        yield from each.collect()


LABELS = {sample.name: set(sample.labels) for metric in every_metric() for sample in metric.samples}
"""The labels of every metric, by name."""


def named(expression: str) -> tuple[set[str], set[str]]:
    """Return the metrics and the labels that a PromQL expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    labels: set[str] = set()
    for matchers in re.findall(r"\{([^}]*)\}", bare):
        labels |= set(re.findall(r"(\w+)\s*[=!]", matchers))
    for grouping in re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", bare):
        labels |= set(re.findall(r"\w+", grouping))
    bare = re.sub(r"\b(?:by|without|on|ignoring)\s*\([^)]*\)|\{[^}]*\}|\[[^\]]*\]", " ", bare)
    return {word for word in re.findall(r"[A-Za-z_:][\w:]*", bare) if not _WORDS.fullmatch(word)}, labels


def expressions() -> Iterator[tuple[str, str]]:
    for panel in dashboard()["panels"]:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for rule in rules():
        yield rule["alert"], rule["expr"]


def dashboard() -> dict[str, Any]:
    read: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())
    return read


def rules() -> list[dict[str, Any]]:
    read = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    assert set(read) == {"groups"}
    assert all(set(group) <= {"name", "interval", "rules"} for group in read["groups"])
    return [rule for group in read["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    ("where", "expression"), [pytest.param(where, expression, id=where) for where, expression in expressions()]
)
def test_expression_names_existing_metrics_and_labels(where: str, expression: str) -> None:
    metrics, labels = named(expression)
    assert metrics, where
    assert metrics <= set(LABELS), where
    known = set.union(*(LABELS[name] for name in metrics))
    assert labels <= known | _OF_PROMETHEUS, where
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing), where


@pytest.mark.parametrize(
    "expression", ["snapshots_gone_total", "sum by (trigger) (rate(snapshots_made_total[5m])) > 0"]
)
def test_unknown_metric_is_detected(expression: str) -> None:
    metrics, _ = named(expression)
    assert not metrics <= set(LABELS)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_alert_is_complete(rule: dict[str, Any]) -> None:
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Snapshots[A-Za-z]+", rule["alert"])
    assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert set(rule["annotations"]) == {"summary", "description"}
    for text in rule["annotations"].values():
        asked = set(re.findall(r"\$labels\.(\w+)", text))
        assert asked <= named(rule["expr"])[1]


def test_alerts_cover_what_an_operator_must_not_miss() -> None:
    watched = set.union(*(named(rule["expr"])[0] for rule in rules()))
    for name in (
        "identity_broken",
        "oldest_waiting_seconds",
        "failed_total",
        "intake_lag_seconds",
        "event_lag_seconds",
    ):
        assert f"snapshots_{name}" in watched
    assert "snapshots_redis_memory_bytes" in watched


def _documented() -> Iterator[set[str]]:
    """Return, for each name in the table of docs/operations.md, the metrics that it can stand for.

    `_c` after `snapshots_a_b` stands for `snapshots_c` or `snapshots_a_c`; `*` stands for any text.
    """
    text = (DEPLOY.parent / "docs" / "operations.md").read_text()
    table = text.partition("| metric | labels | description |\n")[2].partition("\n\n")[0]
    for line in table.splitlines()[1:]:
        first, *others = re.findall(r"`([a-z_*]+)`", line.split("|")[1])
        parts = first.split("_")
        for name in (first, *others):
            starts = ["_".join(parts[:count]) for count in range(1, len(parts))] if name.startswith("_") else [""]
            yield {each for start in starts for each in NAMES if fnmatch(each, start + name)}


NAMES = {re.sub("_(bucket|count|sum)$", "", name) for name in LABELS if not name.endswith("_created")}
"""The metrics without the suffixes of a histogram's samples, and without the times that prometheus_client adds."""


def test_each_metric_is_documented() -> None:
    documented = list(_documented())
    assert all(documented)
    assert {name for name in NAMES if name.startswith("snapshots_")} <= set.union(*documented)


def test_panels_do_not_overlap() -> None:
    panels = dashboard()["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        mine = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not mine & taken
        taken |= mine
    assert len({panel["id"] for panel in panels}) == len(panels)


def test_no_label_can_hold_personal_data_or_an_id() -> None:
    ours = {label for name, labels in LABELS.items() if name.startswith("snapshots_") for label in labels}
    kinds = {"trigger", "code", "queue", "group", "server", "reason", "le", "method", "route", "status", "type"}
    kinds |= {"by", "outcome", "result"}
    assert ours <= kinds
