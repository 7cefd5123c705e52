"""Memory of a process, where there is a /proc that tells."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Literal


def memory_mb(pid: int | str, which: Literal["VmRSS", "VmHWM"]) -> int | None:
    """MB of a process ("self": of this one), now (VmRSS) or the most ever (VmHWM); None: unknown.

    Not getrusage: what that says of a process includes what its parent had when it forked.
    """
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(rf"^{which}:\s*(\d+) kB$", status, re.MULTILINE)
    return math.ceil(int(found[1]) / 1024) if found else None
