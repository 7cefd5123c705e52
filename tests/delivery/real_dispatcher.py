"""`lookback run` with a model that answers at once: a process for nights that kill it.

python -m delivery.real_dispatcher LOCATION OUTPUT SETTINGS
"""

import asyncio
import random
import signal
import sys
import time
from pathlib import Path

from answering import Answering

from dispatcher import service
from dispatcher.invokers import InlineInvoker
from dispatcher.settings import load

ANSWER_S = 0.5  # at most, for a batch


async def main(location, output, settings_file):
    settings = load(Path(settings_file))
    answer = Answering(service.identify_model(settings.workers.weights).weights_sha256)

    def handler(event, context):
        time.sleep(random.uniform(0, ANSWER_S))
        return answer(event, context)

    invoker = InlineInvoker(handler)
    async with service.prepare(location, Path(output), settings, invoker=invoker) as run:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, run.lane.stop)
        await run.lane.run()
        if run.lane.unbalanced() or not run.totals().balanced:
            sys.exit(f"the books do not balance: {run.totals()}")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
