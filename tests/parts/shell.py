"""A shell as whoever follows a page has it: commands of this environment on the path."""

import os
import subprocess
import sys
from pathlib import Path


def run(commands: str, folder: Path, **environment: str) -> str:
    """Run them in `folder`, to the first that fails; returns what they printed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "LOOKBACK_STATUS__PORT": "0",
            "LOOKBACK_WORKERS__COUNT": "1",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout
