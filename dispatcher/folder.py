"""One service, one output folder: a second writer would undo the first one's books."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from dispatcher.errors import SettingsError

_LOCK: Final = "lock"


def is_held(folder: Path) -> bool:
    """Whether a service holds `folder` now."""
    try:
        with (folder / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold `folder` (made if need be) while the context lasts; a crash lets go of it.

    Raises:
        SettingsError: it cannot be made or written, or another service holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise SettingsError(
            f"the output folder {folder} cannot be written ({error.strerror}): "
            "give another with --to"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise SettingsError(
                f"another lookback is writing to {folder}: wait until it ends, or give another "
                "folder with --to"
            ) from error
        yield
