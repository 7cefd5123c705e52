"""Random nights from seeds: `PYTHONPATH=tests python -m delivery.random_night --seeds 0:1000`.

A seed decides the sky, the dispatchers, the delays and the faults, and in virtual time it gives
the same night again.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

import structlog

from delivery.dispatcher import Wrong
from delivery.night import Night, play
from delivery.plan import Plan
from delivery.sky import ROWS, Sky

_MOST_FAULTS = 12
_BETWEEN_FAULTS_S = 3.0
_IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None  # no crash of the machine here


def pass_one(seed):
    """Let the night of a seed pass, and see that it left what an undisturbed one does.

    Returns what happened, counted. An error that ends it has the seed in a note.

    Raises:
        Wrong: it did not.
    """
    try:
        with tempfile.TemporaryDirectory(dir=_IN_MEMORY) as folder:
            return _pass(seed, Path(folder))
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise


def _pass(seed, folder):
    draw = random.Random(seed)
    sky, plan = Sky(draw), Plan.drawn(draw)
    expected = play(Night(sky, Plan.calm(plan.queue), f"{seed} calm", folder / "calm"))
    if len(expected["sink 0"]) != sum(fate in ROWS for fate in sky.fates.values()):
        raise Wrong("an undisturbed night does not answer all that is asked")
    night = Night(sky, plan, seed, folder / "night")
    found = play(night, Faults(draw).happen)
    for name, held in expected.items():
        if found[name] != held:
            missing, more = held - found[name], found[name] - held
            raise Wrong(f"{name}: missing {list(missing)[:3]}, too much {list(more)[:3]}")
    if not plan.queue and night.books() != {each: len(log) for each, log in sky.logs.items()}:
        raise Wrong(f"the books are {night.books()}")
    return night.seen


class Faults:
    """What goes wrong in a night, at random moments."""

    def __init__(self, draw):
        self._draw = draw
        self._count = draw.randint(2, _MOST_FAULTS)

    async def happen(self, night):
        kinds = _OF_QUEUES if night.plan.queue else _OF_GROUPS
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._count):
                await asyncio.sleep(self._draw.expovariate(1 / _BETWEEN_FAULTS_S))
                kind = self._draw.choice(kinds)
                tasks.create_task(self._one(kind, night))

    async def _one(self, kind, night):
        if await kind(self._draw, night):
            night.seen[kind.__name__.replace("_", " ")] += 1


def _anyone(draw, night):
    names = sorted(each for each, one in night.running.items() if one.alive)
    return night.running[draw.choice(names)] if names else None


async def kill(draw, night):
    if one := _anyone(draw, night):
        one.kill()
        return True


async def leave(draw, night):
    if one := _anyone(draw, night):
        one.lane.stop()
        return True


async def expel(draw, night):
    """A session runs out, and its member does not know: it goes on."""
    if one := _anyone(draw, night):
        await night.source.expel(one.source)
        return True


async def cut(draw, night):
    """The network is gone between a dispatcher and the broker; maybe its session runs out."""
    if one := _anyone(draw, night):
        one.source.connected = False
        await asyncio.sleep(draw.uniform(0, 3))
        if not night.plan.queue and draw.random() < 0.7:
            await night.source.expel(one.source)
        await asyncio.sleep(draw.uniform(0, 5))
        # It may have been killed meanwhile, or have left.
        one.source.connected = one in night.running.values() and one.alive
        return True


async def broker_restart(draw, night):
    night.source.stop()
    await asyncio.sleep(draw.uniform(0, 6))
    night.source.start()
    return True


async def broker_away(draw, night):
    night.source.up = False
    await asyncio.sleep(draw.uniform(0, 6))
    night.source.up = True
    return True


async def sink_away(draw, night):
    shelf = draw.choice([*night.required, *night.others, night.letters])
    shelf.away = True
    await asyncio.sleep(draw.uniform(0, 15))
    shelf.away = False
    return True


async def visibility_expires(draw, night):
    night.source.expire()
    return True


async def delivered_again(draw, night):
    """A queue may deliver what was deleted."""
    for _ in range(5):
        night.source.put_back(draw.randrange(len(night.bodies)))
    return True


_OF_GROUPS = [kill, kill, leave, expel, cut, broker_restart, broker_away, sink_away]
_OF_QUEUES = [kill, kill, leave, cut, broker_away, sink_away, visibility_expires, delivered_again]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0:200", help="first:end")
    arguments = parser.parse_args()
    first, _, end = arguments.seeds.partition(":")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    seen, failed, started = Counter(), [], time.monotonic()
    for seed in range(int(first), int(end or int(first) + 1)):
        try:
            seen.update(pass_one(seed))
        except (Exception, asyncio.CancelledError):  # noqa: BLE001  one failed, others go on
            failed.append(seed)
            traceback.print_exc()
        seen["nights"] += 1
    seen["seconds"] = round(time.monotonic() - started)
    print(json.dumps({**dict(sorted(seen.items())), "failed": failed}, indent=1))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
