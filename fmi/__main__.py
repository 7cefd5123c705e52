"""`python -m fmi explain`: which channel would be taken, and why.

Exit codes: 0 done; 2 it could not be done (a wrong argument, a channel that does not work).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from fmi.channels.protocol import Transport
from fmi.channels.shared import Shared
from fmi.choosing import local
from fmi.choosing.decision import Choice, Workload, choose
from fmi.choosing.explain import explained
from fmi.choosing.models import DEFAULTS, Costs
from fmi.choosing.traffic import OPERATIONS
from fmi.errors import FmiError

_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    f"{letter}{kind}": base ** (power + 1)
    for power, letter in enumerate("kmg")
    for kind, base in (("", 1024), ("ib", 1024), ("b", 1000))
}
_BY_DEFAULT: Final = ("direct", "redis", "s3")
_EXAMPLES: Final = """examples:
  python -m fmi explain --ranks 8 --operation allreduce --bytes 1MiB --hint cheap
  python -m fmi explain --ranks 64 --bytes 100MB --channels redis,s3 --memory 256MiB
  python -m fmi explain --ranks 4 --measure --direct --redis redis://127.0.0.1:6379
  python -m fmi explain --measure --s3 my-bucket --endpoint http://127.0.0.1:9000 --json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit code."""
    asked = _parser().parse_args(arguments)
    try:
        choice = _choice(asked)
    except (FmiError, ValueError) as error:
        print(f"fmi: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    print(json.dumps(choice.as_dict(), indent=2) if asked.json else explained(choice))
    return 0


def _choice(asked: argparse.Namespace) -> Choice:
    workload = Workload(asked.operation, asked.bytes, asked.memory / 1024**3)
    found = dict[str, Costs]()
    left_out = dict[str, str]()
    if asked.measure:
        found, left_out = _measured(asked)
    elif asked.redis or asked.s3 or asked.direct or asked.shared:
        raise ValueError("--redis, --s3, --direct and --shared say what to measure: add --measure")
    names = asked.channels or (tuple(found) if asked.measure else _BY_DEFAULT)
    costs = {name: found.get(name, DEFAULTS[name]) for name in names if name not in left_out}
    if not costs:
        why = "; ".join(f"{name}: {each}" for name, each in left_out.items())
        raise ValueError(f"none of the channels works here: {why}")
    return choose(costs, workload, asked.ranks, asked.hint, left_out)


def _measured(asked: argparse.Namespace) -> tuple[dict[str, Costs], dict[str, str]]:
    """The costs of the channels that work here, and why the others do not."""
    size = max(2, min(asked.ranks, os.cpu_count() or 1))
    with ExitStack() as stack:
        over = list[Transport]()
        if asked.direct:
            over.append(stack.enter_context(local.direct(size)))
        if asked.shared:
            over.append(Shared(""))
        if asked.redis:
            from fmi.channels.redis import Redis

            over.append(Redis(asked.redis))
        if asked.s3:
            from fmi.channels.s3 import S3

            over.append(S3(asked.s3, endpoint_url=asked.endpoint))
        if not over:
            raise ValueError("say what to measure: --direct, --shared, --redis URL or --s3 BUCKET")
        choice = local.measured(over, size)
    wanted = [each.name for each in over]
    found = {name: choice.costs[name] for name in wanted if name in choice.costs}
    return found, {name: why for name, why in choice.left_out.items() if name in wanted}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m fmi", description="Message passing.")
    commands = parser.add_subparsers(required=True, metavar="explain")
    explain = commands.add_parser(
        "explain",
        help="which channel would be taken, and why",
        description="What a call takes on each channel, in time and money, and which one is best.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = explain.add_argument
    add("--ranks", type=_count, default=8, metavar="N", help="size of the group (8)")
    add(
        "--operation",
        choices=tuple(OPERATIONS),
        default="allreduce",
        metavar="NAME",
        help=f"one of {', '.join(OPERATIONS)} (allreduce)",
    )
    add("--bytes", type=_bytes, default="1MiB", metavar="SIZE", help="of one object (1MiB)")
    add("--hint", choices=("fast", "cheap"), default="fast", help="what counts (fast)")
    add("--memory", type=_bytes, default="2GiB", metavar="SIZE", help="of a function (2GiB)")
    add(
        "--channels",
        type=_channels,
        metavar="NAMES",
        help=f"separated by commas ({','.join(_BY_DEFAULT)}; with --measure the measured ones)",
    )
    add("--json", action="store_true", help="print one JSON object instead of a table")
    measuring = explain.add_argument_group("measuring, with ranks on this machine")
    add = measuring.add_argument
    add("--measure", action="store_true", help="take the figures of these channels:")
    add("--direct", action="store_true", help="TCP; brings its own rendezvous")
    add("--shared", action="store_true", help="Unix sockets of this host")
    add("--redis", metavar="URL", help="redis://[user:password@]host[:port][/database]")
    add("--s3", metavar="BUCKET", help="a bucket; credentials as for the AWS tools")
    add("--endpoint", metavar="URL", help="of the S3 server, if it is not AWS")
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of ranks: write 1 or more")
    return int(text)


def _bytes(text: str) -> int:
    said = re.fullmatch(r"(\d+(?:\.\d+)?) *([a-z]*)", text.strip().lower())
    if not said or said[2] not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size: write bytes, or a number with KiB, MiB, GiB, kB, MB or GB"
        )
    return round(float(said[1]) * _UNITS[said[2]])


def _channels(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(each.strip() for each in text.split(",") if each.strip()))
    if unknown := [each for each in names if each not in DEFAULTS]:
        raise argparse.ArgumentTypeError(
            f"there is no channel {', '.join(unknown)}: there are {', '.join(DEFAULTS)}"
        )
    return names


if __name__ == "__main__":
    sys.exit(main())
