"""Estimates that are held for review, each made from a number."""

from rows import record

from dispatcher.review.store import Decision, Held
from sinks.record import Review


def estimate(n, **changed):
    """An estimate that a rule has picked."""
    fields = {
        "z_err68_low": 0.09,
        "z_err68_high": 0.11,
        "out_of_domain": 0.99,
        "review": Review.WAITING,
        "review_rules": "out_of_domain",
    }
    return record(n, **{**fields, **changed})


def held(n, **changed):
    """It, as the store gets it."""
    return Held(estimate(n), t_held=100.0 + n, **{"pz": f"pz {n}", "stamp": "{}", **changed})


def key(n):
    """Its result key."""
    return f"{n:032x}"


def decision(standing=Review.APPROVED, by="ann", note="", when=200.0):
    """What a person says."""
    return Decision(standing, by, note, when)
