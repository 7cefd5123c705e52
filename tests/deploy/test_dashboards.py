"""Dashboards and alert rules ask only for metrics that there are."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from promql import Refused, parse

from dispatcher.incidents import FAULTS
from dispatcher.metrics import METRICS

DEPLOY = Path(__file__).parents[2] / "deploy"
PLAYBOOK = (DEPLOY.parent / "docs" / "playbook.md").read_text()
OF_THE_FAULT = '{{ reReplaceAll "_" "-" $labels.fault }}'

_LABEL = re.compile(r"\$labels\.(\w+)")


def rules():
    groups = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboards():
    return {each.name: json.loads(each.read_text()) for each in (DEPLOY / "grafana").glob("*.json")}


def targets():
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for board in dashboards().values()
        for panel in board["panels"]
        for target in panel["targets"]
    ]


EXPRESSIONS = [rule["expr"] for rule in rules()] + [expression for _, expression, _ in targets()]


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_asks_for_what_there_is(expression):
    assert parse(expression).metrics <= METRICS.keys()


@pytest.mark.parametrize(
    "expression",
    [
        "lookback_unheard_of",
        "sum(lookback_sink_open",
        'lookback_sink_open{lane="live"}',
        "sum by (lane) (lookback_sink_open)",
        "rate(lookback_sink_open[1m])",
        "rate(lookback_calls_total)",
        "deriv(lookback_calls_total[1m])",
        "lookback_calls_total[1m]",
        "lookback_sink_open > lookback_drift",
        "sum(lookback_in_flight) > 0 and lookback_paused == 0",
        "lookback_live lookback_ready",
        "guess(lookback_live[1m])",
    ],
)
def test_an_expression_that_would_never_tell_anything_is_seen(expression):
    with pytest.raises(Refused):
        parse(expression)


@pytest.mark.parametrize(("title", "expression", "legend"), targets())
def test_a_legend_names_labels_that_the_curves_have(title, expression, legend):
    assert set(re.findall(r"{{(\w+)}}", legend)) <= parse(expression).labels, title


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    said = rule["annotations"]
    assert said["summary"]
    assert set(_LABEL.findall(" ".join(said.values()))) <= parse(rule["expr"]).labels
    page, anchor = said["runbook_url"].split("#")
    assert page == "docs/playbook.md"
    headings = {slug(each) for each in re.findall(r"^## (.*)$", PLAYBOOK, re.MULTILINE)}
    if anchor == OF_THE_FAULT:
        assert {each.anchor for each in FAULTS.values()} <= headings
    else:
        assert anchor in headings


def slug(heading):
    """As mkdocs and code hosts make it, or as it is given."""
    given = re.search(r"\{#(.*)\}", heading)
    return given[1] if given else re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def test_what_is_urgent_is_age_and_money_and_never_the_length_of_a_queue():
    for rule in rules():
        assert "queue_waiting" not in rule["expr"], rule["alert"]
        assert "sink_waiting" not in rule["expr"], rule["alert"]


def test_every_fault_is_told_by_one_rule():
    urgent, other = (
        re.fullmatch(r'lookback_incident{fault(=~|!~)"([a-z_|]+)"} > 0', each["expr"]).groups()
        for each in rules()
        if each["expr"].startswith("lookback_incident")
    )
    assert (urgent[0], other[0]) == ("=~", "!~")
    assert urgent[1] == other[1]
    assert set(urgent[1].split("|")) < FAULTS.keys()


def test_dashboards_are_those_that_are_made():
    path = DEPLOY / "grafana" / "make.py"
    specification = importlib.util.spec_from_file_location("make", path)
    made = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(made)
    assert {name: json.loads(text) for name, text in made.files().items()} == dashboards()


@pytest.mark.parametrize("name", dashboards())
def test_a_dashboard_says_what_each_panel_tells_and_in_which_unit(name):
    board = dashboards()[name]
    assert board["schemaVersion"] >= 39
    places = [panel["gridPos"] for panel in board["panels"]]
    assert len({(each["x"], each["y"]) for each in places}) == len(places)
    for panel in board["panels"]:
        assert panel["description"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["datasource"]["uid"] == "${datasource}"
