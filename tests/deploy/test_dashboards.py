"""Dashboards and alert rules ask only for metrics that there are."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml

from dispatcher.incidents import FAULTS
from dispatcher.metrics import METRICS, Kind

DEPLOY = Path(__file__).parents[2] / "deploy"
PLAYBOOK = (DEPLOY.parent / "docs" / "playbook.md").read_text()
OF_THE_PROCESS = {"lookback_process_resident_memory_bytes"}
OUTSIDE = {"severity"}

_NAME = re.compile(r"\blookback_[a-z_]+")
_SELECTED = re.compile(r"\b(lookback_[a-z_]+)\{([^}]*)\}")
_BY = re.compile(r"\bby \(([^)]*)\)")
_RATED = re.compile(r"\b(rate|increase)\((lookback_[a-z_]+)")


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
    names = set(_NAME.findall(expression)) - OF_THE_PROCESS
    assert names <= METRICS.keys()
    for name, selected in _SELECTED.findall(expression):
        labels = {each.split("=")[0] for each in selected.split(",")}
        assert labels <= set(METRICS[name].labels)
    labels = {label for name in names for label in METRICS[name].labels}
    for grouped in _BY.findall(expression):
        assert {each.strip() for each in grouped.split(",")} <= labels
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_rates_are_taken_of_what_only_grows(expression):
    for _, name in _RATED.findall(expression):
        assert METRICS[name].kind is Kind.COUNTER, name


@pytest.mark.parametrize(("title", "expression", "legend"), targets())
def test_a_legend_names_labels_that_the_curves_have(title, expression, legend):
    wanted = set(re.findall(r"{{(\w+)}}", legend))
    kept = {each.strip() for grouped in _BY.findall(expression) for each in grouped.split(",")}
    plain = _NAME.fullmatch(expression.split("{")[0])
    labels = set(METRICS[plain[0]].labels) if plain and plain[0] in METRICS else set()
    assert wanted <= kept | labels, title


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert rule["annotations"]["summary"]
    page, anchor = rule["annotations"]["runbook_url"].split("#")
    assert page == "docs/playbook.md"
    headings = re.findall(r"^## (.*)$", PLAYBOOK, re.MULTILINE)
    assert anchor in {slug(each) for each in headings}


def slug(heading):
    """As mkdocs and code hosts make it, or as it is given."""
    given = re.search(r"\{#(.*)\}", heading)
    return given[1] if given else re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-")


def test_what_is_urgent_is_age_and_money_and_never_the_length_of_a_queue():
    for rule in rules():
        assert "queue_waiting" not in rule["expr"], rule["alert"]
        assert "sink_waiting" not in rule["expr"], rule["alert"]


def test_every_fault_would_be_told_by_some_rule():
    (catch_all,) = [each for each in rules() if each["alert"] == "LookbackIncident"]
    assert catch_all["expr"].startswith("max by (fault) (lookback_incident)")
    assert FAULTS


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
