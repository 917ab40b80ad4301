"""What the files in monitoring/ ask Prometheus for."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import yaml

ROOT = Path(__file__).resolve().parents[2]
MONITORING = ROOT / "monitoring"


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text("utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text("utf-8"))
    return found


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression, with where it stands."""
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", []):
            # Grafana puts a duration there
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m")


def metrics_in(expression: str) -> set[str]:
    """The names of the metrics that an expression reads. ValueError where it is no PromQL."""
    selectors: list[Any] = []

    def note(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            selectors.append(node)

    promql_parser.walk(promql_parser.parse(expression), note)
    return {selector.name for selector in selectors}


def metrics_of_the_bridge() -> set[str]:
    """The names in its source, and those of their samples."""
    source = (ROOT / "http_bridge" / "metrics.py").read_text("utf-8")
    return {name + end for name in re.findall(r'"(imagetools_\w+)"', source) for end in ("", "_total", "_bucket")}
