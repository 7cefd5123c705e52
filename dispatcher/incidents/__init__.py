"""What goes wrong, as a person sees it: one line, one metric, one panel, one page of advice.

A log line that begins an incident carries `incident=` with the name of a fault; one that ends it
carries `ended=`. Whoever notices something says it once, in the log, and needs nothing else: the
board listens there, so that log, page and metrics cannot disagree.
"""

from dispatcher.incidents.board import Board, Incident, LogLine, current_board
from dispatcher.incidents.faults import FAULTS, Fault

__all__ = ["FAULTS", "Board", "Fault", "Incident", "LogLine", "current_board"]
