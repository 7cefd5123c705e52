"""Where a run computes: processor or GPU, float32 or bfloat16, compiled or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from workers.errors import RecipeError


@dataclass(frozen=True, slots=True)
class Machine:
    """`half`: matrix products in bfloat16; weights, sums and losses stay float32."""

    device: torch.device
    half: bool = False
    compiled: bool = False

    @classmethod
    def choose(cls, device: str, *, threads: int, half: bool, compiled: bool) -> Machine:
        """`device` "auto" is a GPU where there is one. `threads` is for the processor.

        Raises:
            RecipeError: there is no such device.
        """
        torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0]
            raise RecipeError(f"no device {device} here ({why}); try --device cpu") from error
        return cls(torch.device(device), half, compiled)

    def put(self, tensor: Tensor) -> Tensor:
        """The tensor on this device."""
        return tensor.to(self.device, non_blocking=True)

    def ready(self, model: nn.Module) -> Callable[..., Any]:
        """`model` on this device, as a function: compiled and in bfloat16, if asked for."""
        model.to(self.device)
        call: Callable[..., Any] = torch.compile(model) if self.compiled else model

        def run(*inputs: Tensor) -> Any:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.half):
                return call(*inputs)

        return run
