"""What stops the dispatcher, and what a worker's failure looks like to it.

    DispatcherError
    ├── SettingsError        a setting is unknown, missing or out of range
    ├── LedgerUnavailable    the store of the ledger does not answer
    ├── NoRoomForState       the disk of the state file is full, for now
    ├── LaneStopped          the lane stopped itself (a sink that refuses, a full disk)
    │   └── BrokenStream     too many dead letters
    └── InvocationError      one invocation gave no answer
        ├── WorkerLost       the worker ended before it answered
        ├── TimedOut         no answer within the deadline; the worker was stopped
        ├── FunctionError    the handler raised, or could not be loaded
        ├── PlatformFailed   the platform failed, or the way to it: nobody knows what was run
        ├── Throttled        the platform has no worker for it now: nothing was run or billed
        └── Refused          it will not be taken before a person mends something

Every message is one line that says what happened and what a person can do.
"""

from __future__ import annotations


class DispatcherError(Exception):
    """Root of the errors of this package."""


class SettingsError(DispatcherError):
    """A setting is unknown, missing or out of range."""


class LedgerUnavailable(DispatcherError):
    """The store of the ledger does not answer: no money can be set aside, so nothing is sent."""


class NoRoomForState(DispatcherError):
    """The disk of the state file is full: nothing is committed until there is room."""


class LaneStopped(DispatcherError):
    """The lane stopped itself; what was not answered is still uncommitted and will be redone."""


class BrokenStream(LaneStopped):
    """Too many events became dead letters. `how_many`: of how many; `limit`: the setting."""

    def __init__(self, how_many: str, limit: str) -> None:
        super().__init__(
            f"{how_many} became dead letters: this is a broken stream or a broken release, not bad "
            "luck; their reasons and bytes are among the dead letters (`lookback deadletters "
            f"list`): mend what they say and run again ({limit} sets the limit)"
        )


class InvocationError(DispatcherError):
    """One invocation gave no answer. `reason` is its code in dead letters.

    `reached`: the place in its partition of the item that was being looked at last, or of the first
    of several that were looked at together; None if that is not known.
    """

    reason = "no_answer"
    ran = True
    """Whether anything may have been run, so that it costs money although no bill came."""
    blames_items = True
    """Whether an item may be the cause."""

    def __init__(self, message: str, reached: int | None = None) -> None:
        super().__init__(message)
        self.reached = reached


class WorkerLost(InvocationError):
    """The worker process ended (crash, out of memory, kill) before it answered."""

    reason = "kills_worker"


class TimedOut(InvocationError):
    """No answer within the deadline; the worker was stopped."""

    reason = "times_out"


class FunctionError(InvocationError):
    """The handler raised, or could not be loaded. `kind`: what it raised, if that is known."""

    reason = "function_error"

    def __init__(self, message: str, reached: int | None = None, kind: str | None = None) -> None:
        super().__init__(message, reached)
        self.kind = kind


class PlatformFailed(InvocationError):
    """The platform failed, or the way to it: nobody knows what was run, and no item is to blame."""

    reason = "platform_failed"
    blames_items = False


class Throttled(InvocationError):
    """The platform has no worker for it now: nothing was run, nothing is billed."""

    reason = "throttled"
    ran = False
    blames_items = False


class Refused(InvocationError):
    """It will not be taken before a person mends something: the lane stops."""

    reason = "refused"
    ran = False
    blames_items = False
