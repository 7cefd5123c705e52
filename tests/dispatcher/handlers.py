"""Handlers for tests of invokers: what a function can do to its host, and at which item."""

import ctypes
import json
import os
import resource
import sys
import time
from pathlib import Path

from workers import payload


def handler(event, context):
    """Do what the event says, or the one whose address it is."""
    event = payload.resolved(event, 5.0)
    for each in range(event.get("from", 0), event.get("to", 0), event.get("step", 1)):
        print(f"lookback at {each}", flush=True)
    deed = event.get("deed", "echo")
    if "tally" in event:
        with Path(event["tally"]).open("a") as file:
            file.write("begun\n")
    if deed in DEADLY:
        DEADLY[deed](event)
    if deed == "sleep":
        time.sleep(event["seconds"])
    if deed == "tarry":
        Path(event["tell"]).touch()
        time.sleep(event["seconds"])
    if deed == "raise":
        raise ValueError("no good")
    if deed == "large":
        return "x" * event["bytes"]
    if deed == "hoard":
        kept = bytearray(event["bytes"])
        time.sleep(1)
        return len(kept)
    if deed == "grow":
        return len(bytearray(event["bytes"]))
    return {
        "event": event if "pad" not in event else None,
        "bytes": len(json.dumps(event)),
        "pid": os.getpid(),
        "left_ms": context.get_remaining_time_in_millis(),
        "torch": "torch" in sys.modules,
    }


def leave(event):
    """Ends without a word to the runtime, but for the last one."""
    print("about to end", flush=True)
    os._exit(3)


def run_out_of_memory(event):
    """Asks for more than a process can have."""
    bytearray(1 << 60)


def segfault(event):
    """Reads where nothing is."""
    without_core()
    ctypes.string_at(0)


def abort(event):
    """Ends as a failed assertion of a library does."""
    without_core()
    os.abort()


def babble(event):
    """Prints a line that no pipe and no reader holds at once, and ends."""
    print("x" * 300_000, flush=True)
    print("lookback at 77", flush=True)
    print("lookback at the sky", flush=True)
    os._exit(4)


def without_core():
    """Crashes leave no file behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


DEADLY = {
    "die": leave,
    "exhaust": run_out_of_memory,
    "segfault": segfault,
    "abort": abort,
    "babble": babble,
}
