"""How a command ends: the exit codes, and which error is which.

With `--json` the last line of standard output is always one JSON object: the answer, or, where
there is none, `{"error": "one sentence", "exit": code}`. The sentence is on standard error anyway.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, NamedTuple, NoReturn

import typer


class Code(IntEnum):
    """What a shell is told."""

    DONE = 0
    WRONG = 1
    NOT_STARTED = 2
    INTERRUPTED = 130


MEANING: Final = {
    Code.DONE: "done; a run that one Ctrl-C or SIGTERM ended in good order has done so, too",
    Code.WRONG: "it ran and something is wrong (books that do not balance, too many dead letters, "
    "a finding, a question answered with no), or something is away for now (a broker, a database) "
    "and the same command goes on later",
    Code.NOT_STARTED: "it could not start: a word, a path or a setting is wrong; mend it first",
    Code.INTERRUPTED: "interrupted by Ctrl-C; a second signal that ends a run at once gives 128 "
    "and its number",
}

_DEFAULT: Final = {
    Code.NOT_STARTED: "the words of the command are not understood: standard error says which",
    Code.INTERRUPTED: "interrupted",
}


@dataclass(slots=True)
class _Said:
    """What this command has said so far."""

    answered: bool = False
    complaint: str = ""


_said = _Said()


class Trouble(NamedTuple):
    """One sentence, and the code that a command ends with."""

    sentence: str
    code: Code


def table() -> str:
    """The codes as a Markdown table."""
    rows = (f"| {code.value} | {meaning} |" for code, meaning in MEANING.items())
    return "\n".join(["| exit code | meaning |", "|---|---|", *rows]) + "\n"


def epilog() -> str:
    """The codes as a paragraph, for the help."""
    codes = (f"{code.value}: {meaning}." for code, meaning in MEANING.items())
    return "\n\n".join(["How it ends (exit code):", *codes])


def begin() -> None:
    """A command begins: nothing is said yet."""
    _said.answered, _said.complaint = False, ""


def answer(found: Any) -> None:
    """Print the JSON object that a command answers with, on one line."""
    _said.answered = True
    typer.echo(json.dumps(found))


def stand_in(code: int) -> None:
    """Print what stands in for an answer, where none was given."""
    if not _said.answered:
        known = _DEFAULT.get(Code(code)) if code in set(Code) else None
        said = _said.complaint or known or "it has ended: standard error says why"
        answer({"error": said, "exit": code})


def complain(sentence: str, code: Code) -> NoReturn:
    """End with one line on standard error, without the secrets that are in it.

    Raises:
        SystemExit: always.
    """
    from dispatcher.logs import redacted

    _said.complaint = redacted(" ".join(sentence.split()))
    typer.echo(f"lookback: {_said.complaint}", err=True)
    raise SystemExit(code.value)


def trouble_of(error: BaseException) -> Trouble | None:
    """What to say of an error that a person can mend; None: it is one that nobody expected."""
    # Late: a command that goes well needs none of them.
    from dispatcher.errors import DispatcherError, LaneStopped, LedgerUnavailable
    from ingest.errors import IngestError, SourceUnavailable
    from sinks.errors import SinkError, SinkUnavailable
    from workers.errors import WorkerError

    match error:
        case LaneStopped():
            return Trouble(str(error), Code.WRONG)
        case ModuleNotFoundError() if error.name == "torch":
            needs = "this needs torch, which the service does not: pip install 'lookback[train]'"
            return Trouble(needs, Code.NOT_STARTED)
        case SourceUnavailable() | SinkUnavailable() | LedgerUnavailable():
            said = f"{error}; the same command goes on once it is back"
            return Trouble(said, Code.WRONG)
        case DispatcherError() | IngestError() | SinkError() | WorkerError():
            return Trouble(str(error), Code.NOT_STARTED)
    return None
