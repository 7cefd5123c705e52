"""Names of the sides that figures ask for."""

from typing import Final

ESTIMATE: Final = "estimate"
ENGINE: Final = "engine"
LOOP: Final = "CAI's loop"
