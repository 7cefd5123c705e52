"""Results as a HATS catalogue: Parquet cut by HEALPix, which LSDB reads while it grows."""

from __future__ import annotations

from sinks.hats.compaction import Compacted, compact
from sinks.hats.sink import HatsSink

__all__ = ["Compacted", "HatsSink", "compact"]
