"""The simulator: the real dispatcher on a virtual clock, against a SIMULATED platform and sky.

    arrivals -> source -> Lane -> Scheduler -> Ledger -> platform
               simulated   ------- real -------          simulated

A night takes seconds, and a seed gives the same night again.
"""
