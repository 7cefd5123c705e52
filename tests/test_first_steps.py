"""README and quick start, command by command, as somebody does who has just come."""

import re
import sys
from pathlib import Path

import pytest
from parts.shell import run

ROOT = Path(__file__).parents[1]
RUN = re.compile(r"<!-- run -->\n```sh\n(.*?)```", re.DOTALL)
BOOKS = re.compile(r"^    (\d+ received = .*)$", re.MULTILINE)

# What this environment has already; and a part of the night is enough for the way to Kafka.
OURS = {
    "python3.11 -m venv .venv && .venv/bin/pip install -q -e . && .venv/bin/": "",
    "$PWD/.venv/bin": str(Path(sys.executable).parent),
    "FROM events": "FROM events LIMIT 60",
}


@pytest.mark.timeout(400)
def test_they_lead_to_redshifts(tmp_path, kafka):
    topic = tmp_path.name
    there = {
        "broker:9092/alerts": f"{kafka}/{topic}",
        "broker:9092": kafka,
        '"alerts"': f'"{topic}"',
    }
    said = {}
    for page in ("README.md", "docs/quick-start.md"):
        text = (ROOT / page).read_text()
        for commands in RUN.findall(text):
            if commands not in said:  # the first one is on both pages
                ours = replaced(commands, OURS | there)
                said[commands] = run(ours, tmp_path, LOOKBACK_KAFKA__GROUP=topic)
        (books,) = BOOKS.findall(text)
        assert any(books in " ".join(each.split()) for each in said.values()), said
    assert (tmp_path / "night.png").exists() and (tmp_path / "stamp.png").exists()
    proofs = [each for commands, each in said.items() if "lookback reconcile" in commands]
    assert len(proofs) == 2 and all("proved" in each for each in proofs)


def replaced(text, words):
    for theirs, ours in words.items():
        text = text.replace(theirs, ours)
    return text
