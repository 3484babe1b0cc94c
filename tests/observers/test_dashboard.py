"""Dashboard and alerting rules in docs/ ask for metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import CollectorRegistry

from gomodel_asgi import Gateway, Provider
from gomodel_asgi.contrib.prometheus import GatewayCollector, PrometheusObserver

DOCS = Path(__file__).parents[2] / "docs"
DASHBOARD = json.loads((DOCS / "grafana.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RULES = [rule for group in yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
SHOWN = [target["expr"] for panel in PANELS for target in panel["targets"]]
ALERTS = [rule["expr"] for rule in RULES]
SUFFIXES: dict[str, tuple[str, ...]] = {
    "counter": ("_total",),
    "histogram": ("_bucket", "_count", "_sum"),
    "gauge": ("",),
}


def exported() -> dict[str, set[str]]:
    """The names under which samples are scraped, with their labels."""
    registry = CollectorRegistry()
    gateway = Gateway(providers=[Provider("p", "http://127.0.0.1:9/v1")])
    families: list[Any] = [*GatewayCollector(gateway, registry).describe()]
    described = [(family.name, family.type, family._labelnames) for family in families]
    metrics = [one for one in vars(PrometheusObserver(registry)).values() if hasattr(one, "_labelnames")]
    described += [(metric._name, metric._type, metric._labelnames) for metric in metrics]
    return {name + suffix: {*labels, "le"} for name, type, labels in described for suffix in SUFFIXES[type]}


@pytest.mark.parametrize("expression", SHOWN + ALERTS)
def test_every_expression_asks_for_metrics_and_labels_that_are_exported(expression: str) -> None:
    known = exported()
    asked = re.findall(r"(gomodel_\w+)(?:\{([^}]*)\})?", expression)

    assert asked
    for name, selector in asked:
        assert name in known
        assert {*re.findall(r'(\w+)(?:=~|!~|!=|=)"', selector)} <= known[name]
    whole = set.union(*(known[name] for name, _ in asked))
    for labels in re.findall(r"by \(([^)]*)\)", expression):
        assert {*labels.split(", ")} <= whole


def test_its_panels_lie_beside_each_other() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}

    assert len(places) == len(DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)


def test_every_legend_names_labels_that_its_expression_leaves() -> None:
    for panel in PANELS:
        for target in panel["targets"]:
            left = {label for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for label in group.split(", ")}
            assert {*re.findall(r"{{(\w+)}}", target["legendFormat"])} <= left, panel["title"]


def test_every_rule_says_how_bad_it_is_and_what_is_wrong() -> None:
    for rule in RULES:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
    assert len({rule["alert"] for rule in RULES}) == len(RULES) == 8


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Debian's package prometheus")
def test_the_rules_fire_when_they_should_and_only_then() -> None:
    command = ["promtool", "test", "rules", str(Path(__file__).with_name("alerts.test.yml"))]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert said.returncode == 0, said.stdout + said.stderr


def test_the_rules_are_all_tried_out() -> None:
    tried = yaml.safe_load(Path(__file__).with_name("alerts.test.yml").read_text())["tests"]
    names = {one["alertname"] for test in tried for one in test["alert_rule_test"] if one["exp_alerts"]}

    assert names == {rule["alert"] for rule in RULES}
