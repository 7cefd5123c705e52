"""The reference of the command line, made of the commands themselves: `docs/command-line.md`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from dispatcher.cli import app

_EXAMPLE = re.compile(r"^Example: (.+)$", re.MULTILINE)


def walk(command: Any = None, path: tuple[str, ...] = ("lookback",)) -> Iterator[tuple[str, Any]]:
    """Every command and group with its full name, in the order of the help."""
    command = command or get_command(app)
    yield " ".join(path), command
    if hasattr(command, "commands"):
        for name in command.list_commands(None):
            yield from walk(command.commands[name], (*path, name))


def examples(command: Any) -> list[str]:
    """The examples in the help of a command: whole lines, as a person types them."""
    return _EXAMPLE.findall(_help(command))


def reference() -> str:
    """Every command as Markdown: usage, help, arguments and options with defaults, examples."""
    return "\n".join(_section(name, command) for name, command in walk())


def _section(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    parts = [f"### {name}", f"Usage: `{usage}`", _EXAMPLE.sub("", _help(command)).strip()]
    rows = [_row(each, context) for each in command.params if not _is_typers(each)]
    if rows:
        parts.append("\n".join(["| argument, option | meaning |", "|---|---|", *rows]))
    if shown := examples(command):
        parts.append("\n".join(["```sh", *shown, "```"]))
    return "\n\n".join(parts) + "\n"


def _help(command: Any) -> str:
    # One paragraph is one line, as Markdown and a terminal of any width want it.
    paragraphs = (command.help or "").split("\n\n")
    return "\n\n".join(" ".join(each.split()) for each in paragraphs)


def _row(each: Any, context: Any) -> str:
    name, meaning = each.get_help_record(context)
    cells = (f"`{name}`", " ".join(meaning.split()))
    return "| " + " | ".join(each.replace("|", "\\|") for each in cells) + " |"


def _is_typers(each: Any) -> bool:
    """Typer adds these to the root; the page says what they do."""
    return each.name in ("install_completion", "show_completion")
