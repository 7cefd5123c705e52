"""Documents say what the code does: tables made from it, links that lead somewhere, commands."""

import re
import shlex
from pathlib import Path

import pytest
from parts.shell import run
from typer.main import get_command

import sinks
from dispatcher import metrics, settings
from dispatcher.calls.durations import PRIOR
from dispatcher.calls.sizing import Limits
from dispatcher.cli import app
from dispatcher.incidents import FAULTS, faults
from dispatcher.ledger.prices import Tariff, price
from dispatcher.plan import curve
from dispatcher.settings.sections import ITEMS_PER_INVOCATION
from sinks import schema
from workers.weights import identify, shipped

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def between(page, mark):
    text = (ROOT / "docs" / page).read_text()
    return text.split(f"<!-- {mark} -->\n")[1].split(f"<!-- /{mark} -->")[0].strip() + "\n"


def test_every_setting_is_documented():
    assert between("settings.md", "settings") == settings.reference()


def test_every_field_of_a_result_is_documented():
    assert between("results.md", "fields") == schema.markdown_table()


def test_units_and_ucds_of_every_field_are_documented():
    assert between("schema.md", "observatory") == schema.observatory_table()


def test_what_every_sink_promises_is_documented():
    assert between("results.md", "guarantees") == sinks.guarantees()


def test_every_metric_is_documented():
    assert between("metrics.md", "metrics") == metrics.reference()


def test_metrics_that_are_spoken_of_exist():
    named = {
        name
        for page in PAGES
        for name in re.findall(r"[`({]+(lookback_\w+)[`{]", page.read_text())
        if name != "lookback_inside"  # the network of the compose file
    }
    assert named <= set(metrics.METRICS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


COMMANDS = get_command(app)
COMMAND = re.compile(
    r"^\s*(?:.+ && )?(?:[A-Z_]+=\S+ )*(?:\.venv/bin/)?lookback (\w.*)$", re.MULTILINE
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_what_the_command_line_takes(page):
    for line in COMMAND.findall(page.read_text().replace("\\\n", " ")):
        ours = re.split(r" (?:\||&|\d?>)", line)[0]  # and not what the shell does with it
        words = shlex.split(ours, comments=True)
        known = COMMANDS
        while hasattr(known, "commands"):
            known = known.commands[words.pop(0)]
        known.make_context(known.name, words)  # reads the words, and does nothing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_are_spoken_of_exist(page):
    named = set(re.findall(r"`lookback ([a-z][\w-]*)", page.read_text()))
    assert named <= set(COMMANDS.commands)


def test_the_site_builds_without_a_warning(tmp_path):
    run(f"mkdocs build --strict --site-dir {tmp_path}", ROOT)
    made = {each.relative_to(tmp_path).with_suffix(".md") for each in tmp_path.rglob("*.html")}
    assert {each.relative_to(ROOT / "docs") for each in ROOT.glob("docs/**/*.md")} <= made
    for page in tmp_path.rglob("*.html"):
        loaded = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]* (?:src|href)="(.*?)"', page.read_text()
        )
        assert not [each for each in loaded if "//" in each], f"{page.name} loads from elsewhere"


def test_every_panel_of_the_page_is_explained():
    page = (ROOT / "dispatcher" / "status" / "assets" / "index.html").read_text()
    panels = re.findall(r'<section id="[\w-]+".*?<h2 [^>]*>([^<]+)</h2>', page, re.DOTALL)
    table = (ROOT / "docs" / "page.md").read_text().partition("| panel |")[2].partition("\n\n")[0]
    named = ", ".join(re.findall(r"^\| (\w[^|]*?) \|", table, re.MULTILINE)).split(", ")
    unnamed = [each for each in panels if not each.startswith(tuple(named))]
    assert unnamed == ["Actions"]  # they have a heading of their own
    assert len(panels) == len(named) + 1


def test_every_fault_has_an_entry_in_the_playbook():
    text = (ROOT / "docs" / "playbook.md").read_text()
    assert between("playbook.md", "faults") == faults.reference()
    entries = {
        anchor: (title, body)
        for title, anchor, body in re.findall(
            r"^## ([^\n]+) \{#([\w-]+)\}\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL
        )
    }
    assert entries.keys() == {each.anchor for each in FAULTS.values()}
    for fault in FAULTS.values():
        title, body = entries[fault.anchor]
        assert title == fault.title
        assert fault.metric in body or fault.metric == "lookback_incident", fault.name
        for part in ("You see", "It means", "Now.", "Later.", "It is over"):
            assert f"**{part}" in body, f"{fault.name}: {part}"


def test_lines_of_the_log_that_the_playbook_quotes_are_said():
    text = " ".join((ROOT / "docs" / "playbook.md").read_text().split())
    seen = re.findall(r"\*\*You see\*\*(.*?)\*\*It means", text)
    quoted = {each for part in seen for each in re.findall(r"`([a-z]\w* [^`=]+)`", part)}
    packages = ("dispatcher", "ingest", "sinks", "workers")
    code = "".join(each.read_text() for name in packages for each in (ROOT / name).rglob("*.py"))
    assert len(quoted) > len(FAULTS) / 2
    assert not {each for each in quoted if each not in code and not each.startswith("lookback ")}


def test_what_the_cost_guide_says_of_rates_is_what_plan_says():
    tariff = Tariff(price("aws-lambda/us-east-1/x86_64"), 1769, inline=ITEMS_PER_INVOCATION)
    rows = between("cost.md", "plan").splitlines()[2:]
    assert len(rows) > 3
    for row in rows:
        rate, objective, *figures = (each.strip() for each in row.strip("|").split("|"))
        limits = Limits(ITEMS_PER_INVOCATION, 60.0, 1, exact_ranks=True)
        best = curve(PRIOR, tariff, limits, float(rate), float(objective)).chosen
        hourly = float(rate) * 3600 * best.usd_per_million / 1e6
        usd = f"{best.usd_per_million:.3f}"
        assert figures == [str(best.items), f"{best.age_s:.1f}", usd, f"{hourly:.4f}"]


def test_the_version_has_a_place_in_the_changelog():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", shipped())
def test_a_model_card_is_of_the_shipped_weights(name):
    card, model = (ROOT / "docs" / f"model-{name}.md").read_text(), identify(name)
    assert model.sha256 in card
    assert f"{model.name}, version {model.version}" in card
