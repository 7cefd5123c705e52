"""Dead letters: what could not be answered, with all that is needed to find out why.

A letter is held by its place, the position of its event: written again it is replaced, never
doubled; redriven or discarded it is removed. One file per store; all keep the same contract.
"""

from __future__ import annotations

from sinks.deadletters.file import DeadLetterFile
from sinks.deadletters.letter import DeadLetter, ErrorClass, Place, class_of
from sinks.deadletters.memory import MemoryDeadLetters
from sinks.deadletters.sink import DeadLetterSink

# The stores that need a client library (topic, queue, table) are imported where they are used.
__all__ = [
    "DeadLetter",
    "DeadLetterFile",
    "DeadLetterSink",
    "ErrorClass",
    "MemoryDeadLetters",
    "Place",
    "class_of",
]
