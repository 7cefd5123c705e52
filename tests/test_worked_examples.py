"""The pages on how to contribute, done step by step in a copy of the code as they stand there."""

import re
import runpy
import shlex
import shutil
from pathlib import Path

import lookback
import pytest
from parts.shell import run

from workers.weights import identify

ROOT = Path(__file__).parents[1]
PACKAGES = ("ingest", "sinks", "fmi", "workers", "dispatcher")
BLOCK = re.compile(
    r"^(<!-- run -->\n)?```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def steps(page):
    """Language, title and text of each block that is a step."""
    text = (ROOT / "docs" / "contribute" / f"{page}.md").read_text()
    return [
        (language, title, block)
        for run, language, title, block in BLOCK.findall(text)
        if run or title
    ]


@pytest.fixture
def tree(tmp_path):
    """The code, of which only what a page may change is copied."""
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    passed_over = shutil.ignore_patterns("__pycache__", "models")
    for name in ("ingest", "sinks", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=passed_over)
    for name in set(PACKAGES) - {"ingest", "sinks"}:
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def changed(text, diff):
    """`text` after the hunks of `diff`, each of which must fit in one place."""
    for hunk in re.split(r"^@@\n", diff, flags=re.MULTILINE):
        lines = hunk.splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] in " -")
        after = "".join(line[1:] for line in lines if line[0] in " +")
        assert text.count(before) == 1, f"this is not there once:\n{before}"
        text = text.replace(before, after)
    return text


@pytest.mark.parametrize("page", ["codec", "sink"])
def test_a_page_can_be_followed(page, tree):
    said = ""
    for language, title, block in steps(page):
        if not title:
            said += run(block, tree, PYTHONPATH=str(tree), PYTHONDONTWRITEBYTECODE="1")
        elif language == "diff":
            path = tree / title
            path.write_text(changed(path.read_text(), block))
        else:
            (tree / title).write_text(block)
    assert re.search(r"[1-9]\d* passed", said), said


def test_a_model_can_be_made(tmp_path, monkeypatch):
    """In this process: torch takes longer to load than this model to train."""
    monkeypatch.chdir(tmp_path)
    for _, title, block in steps("model"):
        if title:
            Path(title).write_text(block)
            continue
        for words in map(shlex.split, block.splitlines()):
            if words[0] == "lookback":
                lookback.here(*words[1:])
            else:
                runpy.run_path(words[1])
    assert identify(tmp_path / "run/astromae-mine.safetensors").name == "astromae-mine"


@pytest.mark.parametrize("page", ["codec", "sink"])
def test_the_code_of_a_page_is_as_the_rest(page, tmp_path):
    """Formatted and linted as this project's own."""
    for language, title, block in steps(page):
        if language == "python" and not title.startswith("tests/"):
            (tmp_path / Path(title).name).write_text(block)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    run("ruff format --check . && ruff check --ignore INP001 .", tmp_path)
