"""Reads expressions of Prometheus, as far as ours need it, and says which labels a result has.

`parse` raises Refused for what Prometheus would refuse, for a metric or a label that does not
exist, and for two sides that could never match because their labels differ.
"""

import re
from dataclasses import dataclass, field

from dispatcher.metrics import METRICS, Kind

OF_EVERY_SCRAPE = frozenset({"instance", "job"})
BESIDE = {"up", "lookback_process_resident_memory_bytes"}
_AGGREGATES = {"sum", "max", "min", "count", "avg"}
_OF_COUNTERS = {"rate", "increase"}
_OF_GAUGES = {"deriv", "predict_linear"}
_PRIORITIES = [
    {"or"},
    {"and", "unless"},
    {"==", "!=", ">", "<", ">=", "<="},
    {"+", "-"},
    {"*", "/"},
]
_TOKEN = re.compile(
    r"""\s*(?:(?P<duration>\[\d+[smhd]\])|(?P<number>\d+(?:\.\d+)?)|(?P<string>"[^"]*")"""
    r"""|(?P<word>[a-zA-Z_][a-zA-Z0-9_]*)|(?P<sign>=~|!~|[=!<>]=|[-+*/<>=(){},]))"""
)


class Refused(Exception):
    """The expression means nothing, or could never tell anything."""


@dataclass(frozen=True)
class Result:
    """What an expression gives. `labels`: None for a plain number; `over_time`: with `[5m]`."""

    labels: frozenset[str] | None
    over_time: bool = False
    metrics: frozenset[str] = field(default=frozenset())


def parse(text: str) -> Result:
    """The labels that the result has, and the metrics that it is of."""
    reader = _Reader(_tokens(text))
    result = reader.binary(0)
    if reader.left:
        raise Refused(f"{reader.left[0]!r} is too much")
    if result.over_time:
        raise Refused("a stretch of time is no value")
    return result


def _tokens(text):
    text, place, found = text.strip(), 0, []
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise Refused(f"what is {text[place:]!r}?")
        found.append(match[0].strip())
        place = match.end()
    return found


class _Reader:
    def __init__(self, tokens):
        self.left = tokens

    def take(self, wanted=None):
        if not self.left or wanted not in (None, self.left[0]):
            raise Refused(f"{wanted!r} is missing before {self.left[:3]}")
        return self.left.pop(0)

    def next_is(self, *wanted):
        return bool(self.left) and self.left[0] in wanted

    def binary(self, level):
        if level == len(_PRIORITIES):
            return self.single()
        result = self.binary(level + 1)
        while self.next_is(*_PRIORITIES[level]):
            sign = self.take()
            on = self.names("on") if self.next_is("on") else None
            result = _together(sign, result, self.binary(level + 1), on)
        return result

    def single(self):
        token = self.take()
        if token == "(":
            result = self.binary(0)
            self.take(")")
            return result
        if re.fullmatch(r"[\d.]+", token):
            return Result(None)
        if token in _AGGREGATES:
            return self.aggregate()
        if self.next_is("("):
            return self.function(token)
        return self.selector(token)

    def aggregate(self):
        kept = self.names("by") if self.next_is("by") else frozenset()
        self.take("(")
        of = self.binary(0)
        self.take(")")
        if of.over_time or of.labels is None or not kept <= of.labels:
            raise Refused(f"{set(kept)} are not among the labels {of.labels}")
        return Result(kept, metrics=of.metrics)

    def function(self, name):
        self.take("(")
        of = self.binary(0)
        while self.next_is(","):
            self.take()
            self.binary(0)
        self.take(")")
        if name == "absent":
            return Result(frozenset(), metrics=of.metrics)
        kind = Kind.COUNTER if name in _OF_COUNTERS else Kind.GAUGE
        if name not in _OF_COUNTERS | _OF_GAUGES or not of.over_time:
            raise Refused(f"{name} is no function of that")
        if any(METRICS[each].kind is not kind for each in of.metrics):
            raise Refused(f"{name} is for a {kind}, not for {set(of.metrics)}")
        return Result(of.labels, metrics=of.metrics)

    def selector(self, name):
        if name not in METRICS and name not in BESIDE:
            raise Refused(f"there is no metric {name}")
        own = METRICS[name].labels if name in METRICS else ()
        labels = OF_EVERY_SCRAPE | set(own)
        if self.next_is("{"):
            self.matchers(labels)
        over_time = bool(self.left) and self.left[0].startswith("[")
        if over_time:
            self.take()
        return Result(frozenset(labels), over_time, frozenset({name} & METRICS.keys()))

    def matchers(self, labels):
        self.take("{")
        while not self.next_is("}"):
            label, sign, value = self.take(), self.take(), self.take()
            if label not in labels or sign not in ("=", "!=", "=~", "!~") or value[0] != '"':
                raise Refused(f"{label}{sign}{value} selects nothing")
            if not self.next_is("}"):
                self.take(",")
        self.take("}")

    def names(self, word):
        self.take(word)
        self.take("(")
        found = set()
        while not self.next_is(")"):
            found.add(self.take())
            if self.next_is(","):
                self.take()
        self.take(")")
        return frozenset(found)


def _together(sign, one, other, on):
    """Two sides match where their labels, or those of `on`, are equal."""
    metrics = one.metrics | other.metrics
    if one.over_time or other.over_time:
        raise Refused("a stretch of time is no value")
    if sign == "or":
        return Result(one.labels & other.labels, metrics=metrics)
    if one.labels is None or other.labels is None:
        return Result(one.labels if other.labels is None else other.labels, metrics=metrics)
    if on is None and one.labels != other.labels:
        raise Refused(f"{set(one.labels)} never match {set(other.labels)}")
    if on is not None and not on <= one.labels & other.labels:
        raise Refused(f"one side has no {set(on)}")
    return Result(one.labels, metrics=metrics)
