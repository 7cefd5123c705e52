"""What a person may say of a held estimate, and what is said back."""

from __future__ import annotations

from typing import Any, Final

from dispatcher.errors import SettingsError
from dispatcher.review.store import Decision, Held
from dispatcher.status.recent import Seen, brief
from sinks.record import Review

DECISIONS: Final = {
    "approve": Review.APPROVED,
    "reject": Review.REJECTED,
    "annotate": Review.WAITING,
}
STATES: Final = {each.value: each for each in (Review.WAITING, *DECISIONS.values())}
_LONGEST: Final = {"by": 100, "note": 1000}  # characters


def made(decision: str, by: str, note: str, now: float) -> Decision:
    """A decision from what a person gave; texts are one line each.

    Raises:
        SettingsError: a part is missing, too long or not known.
    """
    if decision not in DECISIONS:
        raise SettingsError(f"{decision!r} is no decision: it is one of {', '.join(DECISIONS)}")
    texts = {"by": " ".join(by.split()), "note": " ".join(note.split())}
    for name, text in texts.items():
        if len(text) > _LONGEST[name] or not text.isprintable():
            raise SettingsError(f"{name}: at most {_LONGEST[name]} printable characters")
    if not texts["by"]:
        raise SettingsError("say who decides (by): the name becomes part of the record")
    if decision == "annotate" and not texts["note"]:
        raise SettingsError("say what is to be noted (note)")
    return Decision(DECISIONS[decision], **texts, when=now)


def said(held: Held, decision: Decision, when: str) -> str:
    """What was decided, as a sentence; `when` it will be published."""
    name = held.record.object_id or held.record.result_id
    if decision.standing is Review.WAITING:
        return f"The note is kept with {name}, which goes on waiting."
    without = " without a redshift" if held.standing is Review.REJECTED else ""
    return f"{name} is {held.standing}: it is published{without} {when}."


def state_of(name: str) -> Review | None:
    """A state that is asked for; None: all.

    Raises:
        SettingsError: there is no such state.
    """
    if name and name not in STATES:
        raise SettingsError(f"{name!r} is no state: it is one of {', '.join(STATES)}")
    return STATES.get(name)


def item(held: Held) -> dict[str, Any]:
    """One held estimate for a list."""
    return {
        "result_id": held.record.result_id,
        "rules": (held.record.review_rules or "").split(),
        "state": held.standing.value,
        "row": {**brief(Seen(0, held.reviewed(), None)), "seq": None},
        "note": held.note,
        "by": held.by,
        "t_held": held.t_held,
        "t_decided": held.t_decided,
        "t_published": held.t_published,
    }
