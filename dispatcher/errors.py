"""What stops the dispatcher, and what a worker's failure looks like to it.

    DispatcherError
    ├── SettingsError        a setting is unknown, missing or out of range
    ├── LaneStopped          the lane stopped itself (too many dead letters, a sink that refuses)
    └── InvocationError      one invocation gave no answer
        ├── WorkerLost       the worker ended before it answered
        ├── TimedOut         no answer within the deadline; the worker was stopped
        └── FunctionError    the handler raised, or could not be loaded

Every message is one line that says what happened and what a person can do.
"""

from __future__ import annotations


class DispatcherError(Exception):
    """Root of the errors of this package."""


class SettingsError(DispatcherError):
    """A setting is unknown, missing or out of range."""


class LaneStopped(DispatcherError):
    """The lane stopped itself; what was not answered is still uncommitted and will be redone."""


class InvocationError(DispatcherError):
    """One invocation gave no answer. `reason` is its code in dead letters."""

    reason = "no_answer"


class WorkerLost(InvocationError):
    """The worker process ended (crash, out of memory, kill) before it answered."""

    reason = "kills_worker"


class TimedOut(InvocationError):
    """No answer within the deadline; the worker was stopped."""

    reason = "times_out"


class FunctionError(InvocationError):
    """The handler raised, or could not be loaded."""

    reason = "function_error"
