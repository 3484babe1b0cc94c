"""The dashboard in docs/ shows metrics that exist."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from gomodel_asgi.contrib.prometheus import PrometheusObserver

DASHBOARD = json.loads((Path(__file__).parents[2] / "docs" / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def exported() -> set[str]:
    """The names under which samples are scraped."""
    registry = CollectorRegistry()
    PrometheusObserver(registry)
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


def test_every_metric_it_asks_for_is_exported() -> None:
    asked = {name for expression in EXPRESSIONS for name in re.findall(r"gomodel_\w+", expression)}

    assert len(asked) >= 8
    assert asked <= exported()


def test_its_panels_lie_beside_each_other() -> None:
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]}

    assert len(places) == len(DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(places)
