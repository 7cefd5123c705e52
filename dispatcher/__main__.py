"""`python -m dispatcher` is `lookback`."""

from dispatcher.cli import main

main()
