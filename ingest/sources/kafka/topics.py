"""Which topics are read: names, topics of the night, a pattern."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from ingest.errors import SourceError

_LEGAL: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")


@dataclass(frozen=True, slots=True)
class Topics:
    """Names, some of which may be of a night ("ztf_%Y%m%d_programid1"), or one `pattern`.

    A topic of the night changes its name at midnight (UTC).
    """

    names: tuple[str, ...] = ()
    pattern: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a list with commas, or a regular expression that begins with ^.

        The expression must match from the beginning of a name, not up to its end: close it with $
        where that matters. It may contain commas, so it stands alone.

        Raises:
            SourceError: no topic can have such a name, or the expression is not one.
        """
        if text.startswith("^"):
            return cls(pattern=_checked(text))
        names = tuple(name.strip() for name in text.split(","))
        for name in names:
            shown = datetime(2000, 1, 1, tzinfo=UTC).strftime(name)
            if not _LEGAL.fullmatch(shown):
                raise SourceError(
                    f'"{name}" is no name of a Kafka topic: those have letters, digits, . _ and -; '
                    'give several with commas, a night as %Y%m%d, or one expression "^..."'
                )
        return cls(names)

    def on(self, now: float, grace_h: float) -> frozenset[str]:
        """The names that are read at `now` (unix seconds, UTC).

        Topics of the night before are among them for `grace_h` hours after midnight.
        """
        tonight = datetime.fromtimestamp(now, UTC).date()
        oldest = datetime.fromtimestamp(now - 3600 * grace_h, UTC).date()
        nights = [tonight - timedelta(days=n) for n in range((tonight - oldest).days + 1)]
        return frozenset(night.strftime(name) for name in self.names for night in nights)

    def among(self, known: set[str], now: float, grace_h: float) -> set[str]:
        """Those of the topics `known` to the cluster that are read at `now`."""
        if self.pattern:
            matches = re.compile(self.pattern).match
            return {name for name in known if matches(name)}
        return known & self.on(now, grace_h)


def _checked(pattern: str) -> str:
    try:
        re.compile(pattern)
    except re.error as error:
        raise SourceError(
            f'"{pattern}" is not a regular expression ({error}): mend it, or give names of topics'
        ) from error
    return pattern
