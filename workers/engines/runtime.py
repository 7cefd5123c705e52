"""OpenVINO, which sends nothing home.

By itself it tells its makers of every import, over the network, from a child process that it forks.
A fork while another thread multiplies matrices can leave that thread waiting for ever for those of
OpenBLAS, which end with it. Where its package for that cannot be imported, it does neither.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

__all__ = ["ops", "ov"]
