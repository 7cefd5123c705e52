"""Results all over the sky."""

import math
import random

import rows


def place(n):
    """Somewhere on the sky, for each n elsewhere."""
    source = random.Random(n)
    return source.uniform(0, 360), math.degrees(math.asin(source.uniform(-1, 1)))


def record(n, **changed):
    ra, dec = place(n)
    return rows.record(n, **{"ra": ra, "dec": dec, **changed})


def close(n):
    """A result in a patch of a few degrees, where four HEALPix pixels of order 0 meet."""
    ra, dec = place(n)
    return record(n, ra=45 + ra / 180, dec=dec / 90)
