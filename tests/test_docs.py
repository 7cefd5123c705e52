"""Documents say what the code does: tables made from it, links that lead somewhere, commands."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mkdocs.commands.build import build
from mkdocs.config import load_config
from typer.main import get_command

import sinks
from dispatcher import metrics, settings
from dispatcher.calls.sizing import Limits
from dispatcher.cli import app
from dispatcher.incidents import FAULTS, faults
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
    assert between("delivery.md", "metrics") == metrics.reference()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


COMMAND = re.compile(r"^\s*(?:[A-Z_]+=\S+ |\S+ && )*(?:\.venv/bin/)?lookback (\w.*)$", re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_are_what_the_command_line_takes(page):
    for line in COMMAND.findall(page.read_text().replace("\\\n", " ")):
        words = shlex.split(line.removesuffix(" &"), comments=True)
        known = get_command(app)
        while hasattr(known, "commands"):
            known = known.commands[words.pop(0)]
        known.make_context(known.name, words)  # reads the words, and does nothing


def test_the_version_has_a_place_in_the_changelog():
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", shipped())
def test_a_model_card_is_of_the_shipped_weights(name):
    card, model = (ROOT / "docs" / f"model-{name}.md").read_text(), identify(name)
    assert model.sha256 in card
    assert f"{model.name}, version {model.version}" in card
