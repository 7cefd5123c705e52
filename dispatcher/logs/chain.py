"""Logs: one line per incident on standard error, nothing in normal operation.

    merge context -> level, time, traceback -> take secrets out -> board of incidents -> render

What libraries warn of goes the same way. Whoever works on one event binds its `position` and, once
that is known, its `alert_id` to the context; whoever asks a group of workers, its `batch`. So a
line says what it is about.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable
from types import TracebackType
from typing import Final, Literal

import structlog
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from dispatcher.incidents import current_board
from dispatcher.logs.redaction import Redactor, secrets_of_environment

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

_QUIET: Final = ("aiokafka", "botocore", "opentelemetry")
"""What these have to say is told by the sources and sinks that use them, once and with advice."""
_STANDARD: Final = (logging.WARNING, logging.ERROR, logging.CRITICAL)
_LEVELS: Final = logging.getLevelNamesMapping()


def configure(form: Format = "auto", level: Level = "info") -> None:
    """Set up the log of this process; again, once the settings are known.

    `form`: JSON for a machine, coloured lines for a person; auto: for whom standard error is.
    Secrets of the environment are masked, and those that `conceal` was told of.
    """
    as_json = form == "json" or (form == "auto" and not sys.stderr.isatty())
    least = _LEVELS[level.upper()]
    redactor, board = _redactor(), current_board()
    redactor.learn(secrets_of_environment(os.environ))
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _traceback(as_json=as_json),
            redactor,
            board,
            _Threshold(least),
            _renderer(as_json=as_json),
        ],
        # The end of an incident is no more than information, and the board must hear it.
        wrapper_class=structlog.make_filtering_bound_logger(min(least, logging.INFO)),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )
    _take_over_from_libraries()


def conceal(secrets: Iterable[str]) -> None:
    """Mask these from now on, in the log and in `redacted`."""
    _redactor().learn(secrets)


def redacted(text: str) -> str:
    """The text without secrets, as the log has it."""
    return _redactor().text(text)


def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """A `sys.excepthook`: what nobody expected is one entry of the log, without secrets, too."""
    if not issubclass(kind, KeyboardInterrupt):
        said = "ended by an error that nobody expected: please report it"
        structlog.get_logger().critical(said, exc_info=(kind, error, trace))


def _redactor() -> Redactor:
    """The one that the log goes through; where there is none, one that knows no secret."""
    for each in structlog.get_config()["processors"]:
        if isinstance(each, Redactor):
            return each
    return Redactor()


def _traceback(*, as_json: bool) -> structlog.typing.Processor:
    """Tracebacks become text here, so that secrets in them are seen. Values are no part of them."""
    if as_json:
        return ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    return structlog.processors.format_exc_info


def _renderer(*, as_json: bool) -> structlog.typing.Processor:
    if as_json:
        return structlog.processors.JSONRenderer(default=str, ensure_ascii=False)
    return structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )


class _Threshold:
    """Drops what is less than `least`, behind the board."""

    def __init__(self, least: int) -> None:
        self._least = least

    def __call__(
        self, _: object, method: str, entry: structlog.typing.EventDict
    ) -> structlog.typing.EventDict:
        if _LEVELS[method.upper()] < self._least:
            raise structlog.DropEvent
        return entry


class FromLibraries(logging.Handler):
    """What libraries warn of takes the same way as our own lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        structlog.get_logger().log(
            max(each for each in _STANDARD if each <= record.levelno),
            record.getMessage(),
            logger=record.name,
            exc_info=record.exc_info,
        )


def _take_over_from_libraries() -> None:
    for library in _QUIET:
        logging.getLogger(library).addHandler(logging.NullHandler())
        logging.getLogger(library).propagate = False
    if not any(isinstance(each, FromLibraries) for each in logging.root.handlers):
        logging.root.addHandler(FromLibraries(logging.WARNING))
