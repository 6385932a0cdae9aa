"""A step's forward and backward pass as one CUDA graph: recorded once, then replayed on new inputs.

On a GPU a step of a small adapter is some hundred kernels of microseconds each, and starting them takes
longer than running them. A replay starts all of them at once. Taking the inputs there, the optimiser and its
schedule stay outside: they are a dozen launches. Not yet run on a GPU. Source: CUDA graphs as PyTorch's
documentation describes them for whole networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adaptation.sampling import PairBatch


@dataclass(frozen=True)
class StepInputs:
    """All that a step reads besides weights, on the device that computes."""

    frames: Tensor  # (F, 3, H, W) uint8
    frozen: Tensor  # (F, C, h, w) float16, prepared
    batch: PairBatch

    @property
    def tensors(self) -> list[Tensor]:
        """All but the numbers of the frames, which a pass does not need once it has the frames."""
        batch = self.batch
        return [
            self.frames,
            self.frozen,
            batch.source,
            batch.target,
            batch.source_xy,
            batch.target_xy,
        ]

    def clone(self) -> StepInputs:
        """The same inputs in memory of their own."""
        return StepInputs(self.frames.clone(), self.frozen.clone(), self.batch.map(torch.clone))


class CapturedPass:
    """A forward and backward pass that can be replayed on other inputs of the same shapes.

    Gradients go where the recorded pass put them, so nothing may set them to None afterwards. Weights are
    read where they lie, so an optimiser that changes them in place is seen.

    Args:
        run: The pass; it must neither copy between devices nor wait for the GPU.
        example: Inputs to record it on. Recording computes nothing.

    Raises:
        RuntimeError: If the pass does what cannot be recorded.
    """

    def __init__(self, run: Callable[[StepInputs], Tensor], example: StepInputs) -> None:
        device = example.frames.device
        self._inputs = example.clone()
        self._graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(device)
        stream = torch.cuda.Stream(device)  # its own: the default one belongs to whichever GPU was first
        try:
            with torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"):
                self._result = run(self._inputs)
        finally:
            torch.cuda.set_stream(current)  # which a recording that fails would leave changed

    def __call__(self, inputs: StepInputs) -> Tensor:
        """Replay the pass, and return its result in memory of its own; nothing waits for the GPU."""
        for mine, given in zip(self._inputs.tensors, inputs.tensors, strict=True):
            mine.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._result.clone()
