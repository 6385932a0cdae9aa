"""Optical flow behind one interface: neighbouring frames both ways, or any list of frame pairs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from t4g_tracker.coordinates import Size
from t4g_tracker.datatypes import FlowSequence
from t4g_tracker.errors import ConfigError
from t4g_tracker.flow.dis import dis_flow

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """Which optical flow the trajectories are chained from."""

    method: Literal["dis", "raft-small", "raft-large"] = "dis"
    pixels: int = 480 * 854  # larger frames are brought down to this many; flow is finer than the features
    weights: str = ""  # RAFT only: path to a state dict; empty takes torchvision's published weights
    updates: int = 12  # RAFT only: recurrent updates a pair
    finest_scale: int = 0  # DIS only: 0 searches at full size, 1 (OpenCV's preset) at half, 4 times faster

    def __post_init__(self) -> None:
        if self.updates < 1:
            raise ConfigError(f"flow.updates must be at least 1, got {self.updates}")
        if self.pixels < 128 * 128:
            raise ConfigError(f"flow.pixels must be at least {128 * 128}, got {self.pixels}")
        if not 0 <= self.finest_scale <= 3:
            raise ConfigError(f"flow.finest_scale must be 0, 1, 2 or 3, got {self.finest_scale}")


def flow_size(original: Size, config: FlowConfig) -> Size:
    """The (H, W) that flow is computed at: the original, or smaller with the aspect kept."""
    shrink = min(1.0, (config.pixels / (original[0] * original[1])) ** 0.5)
    return max(16, round(original[0] * shrink)), max(16, round(original[1] * shrink))


def weights_stamp(config: FlowConfig) -> str:
    """What tells one weights file from another of the same name, for cache keys."""
    path = Path(config.weights)
    return f"{path.stat().st_size}:{path.stat().st_mtime_ns}" if config.weights and path.is_file() else ""


def check_flow(config: FlowConfig) -> None:
    """Look whether RAFT's weights are there and fit, before any long work.

    Raises:
        WeightsError: If they are missing, cannot be fetched or do not fit.
    """
    FlowEstimator(config, torch.device("cpu"))


class FlowEstimator:
    """A loaded flow method: load once, ask for any frame pairs.

    Args:
        config: Which method.
        device: Where RAFT runs; DIS always runs on the CPU.

    Raises:
        WeightsError: If RAFT's weights are not there or do not fit.
    """

    def __init__(self, config: FlowConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self._raft = None
        if config.method != "dis":
            from t4g_tracker.flow.raft import load_raft

            self._raft = load_raft(config.method, config.weights, device)

    def pairs(self, frames: Tensor, pairs: list[tuple[int, int]], progress: Progress | None = None) -> Tensor:
        """Flow for a list of frame pairs.

        Args:
            frames: (T, 3, H, W) uint8.
            pairs: P pairs (from, to) of frame indices.
            progress: Called with (pairs done, pairs in all).

        Returns:
            (P, 2, H, W) float16 displacement (dx, dy) in pixels of ``frames``.
        """
        if self._raft is not None:
            from t4g_tracker.flow.raft import raft_flow_pairs

            return raft_flow_pairs(self._raft, frames, pairs, self.config.updates, self.device, progress)
        flows = torch.empty(len(pairs), 2, *frames.shape[-2:], dtype=torch.float16)
        for index, (first, second) in enumerate(pairs):
            flows[index] = dis_flow(frames[first], frames[second], self.config.finest_scale)
            if progress is not None:
                progress(index + 1, len(pairs))
        return flows

    def neighbours(self, frames: Tensor, progress: Progress | None = None) -> FlowSequence:
        """Flow between all neighbouring frames of (T, 3, H, W), forward and backward."""
        steps = len(frames) - 1
        pairs = [pair for t in range(steps) for pair in ((t, t + 1), (t + 1, t))]
        flows = self.pairs(frames, pairs, progress)
        return FlowSequence(flows[0::2], flows[1::2])
