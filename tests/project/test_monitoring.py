"""The alert rules and the dashboard: every expression is PromQL, and every alert has its entry in the runbook.

tests/streams/watching/test_watching.py checks that the metrics exist.
"""

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.support.monitoring import MONITORING, ROOT, dashboard, expressions, metrics_in, rules

RUNBOOK = ROOT / "docs" / "operations.md"


@pytest.mark.parametrize(("where", "expression"), list(expressions()))
def test_every_expression_is_promql_and_reads_a_metric(where, expression):
    assert metrics_in(expression), where


def test_what_is_no_promql_is_refused():
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        metrics_in("sum by (stage (imagetools_ready)")


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_is_wrong_and_what_to_do(rule):
    assert rule["labels"]["severity"] in ("warning", "critical")
    assert rule["annotations"]["summary"]
    name = rule["alert"]
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    entry = re.search(rf"^### {name}\n\n(.+)", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert entry, f"docs/operations.md has no entry for {name}"


def test_the_runbook_has_no_alert_that_is_gone():
    described = re.findall(r"^### (Imagetools\w+)$", RUNBOOK.read_text("utf-8"), re.MULTILINE)
    assert described == [rule["alert"] for rule in rules()]


def test_the_panels_of_the_dashboard_have_titles_and_words_and_do_not_overlap():
    board = dashboard()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in panels:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        taken.update((x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"]))  # fmt: skip
        assert panel["title"]
        assert panel["type"] in ("row", "stat", "timeseries")
        if panel["type"] != "row":
            assert panel["description"].endswith(".")
            assert panel["fieldConfig"]["defaults"]["unit"]
            refs = [target["refId"] for target in panel["targets"]]
            assert refs
            assert len(set(refs)) == len(refs)
    assert max(taken.values()) == 1


def test_every_panel_reads_the_data_source_that_a_person_chooses():
    board = dashboard()
    (variable,) = board["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    sources = [
        one["datasource"]
        for panel in board["panels"]
        if panel["type"] != "row"
        for one in (panel, *panel["targets"])
    ]  # fmt: skip
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool comes with Prometheus")


@needs_promtool
@pytest.mark.parametrize("words", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")])
def test_promtool_accepts_the_configuration_and_the_rules_fire_when_they_should(words):
    accepted(MONITORING, *words)


@needs_promtool
def test_promtool_accepts_what_the_compose_file_mounts(tmp_path):
    for name in ("compose/prometheus.yml", "alerts.yml"):
        shutil.copy(MONITORING / name, tmp_path)
    accepted(tmp_path, "check", "config", "prometheus.yml")


def accepted(folder: Path, *words: str) -> None:
    run = subprocess.run(["promtool", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
