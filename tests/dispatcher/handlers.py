"""Handlers for tests of invokers: what a function can do to its host."""

import os
import sys
import time


def handler(event, context):
    """Do what the event says."""
    deed = event.get("deed", "echo")
    if deed == "die":
        print("about to end", flush=True)
        os._exit(3)
    if deed == "sleep":
        time.sleep(event["seconds"])
    if deed == "raise":
        raise ValueError("no good")
    if deed == "large":
        return "x" * event["bytes"]
    return {
        "event": event,
        "pid": os.getpid(),
        "left_ms": context.get_remaining_time_in_millis(),
        "torch": "torch" in sys.modules,
    }
