"""A dispatcher in a process of its own: leases and spends until there is no more, then says so.

python spender.py FOLDER ADDRESS OWNER CAP
"""

import asyncio
import sys
import time
from pathlib import Path

from dispatcher.ledger.accounts import TOTAL, Purse, Refusal, Window
from dispatcher.ledger.stores import Entry, open_store


async def spend(folder, address, owner, cap):
    store = open_store(address, Path(folder), "shared")
    await store.open()
    caps, number, spent = {TOTAL: {Window.MONTH: int(cap)}}, 0, 0
    print("open", flush=True)
    while True:
        now = time.time()
        found = await store.lease(owner, Purse.LIVE, 7, 7, caps, now, 30.0)
        if isinstance(found, Refusal):
            break
        number += 1
        await store.report(owner, number, [Entry(now, Purse.LIVE, 7, 7, 1, "settled")], {}, now)
        spent += 7
    print(spent, flush=True)
    await store.close()


asyncio.run(spend(*sys.argv[1:]))
