"""Whether a run is alive and ready (`verdicts`), by the pulse of its lane; and who is told."""

from dispatcher.health.verdicts import Verdict, live, ready

__all__ = ["Verdict", "live", "ready"]
