"""Optical flow behind one interface: neighbouring frames both ways, or any list of frame pairs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.bundled import RAFT_MINI
from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import FlowSequence
from t4g_tracker.errors import ConfigError
from t4g_tracker.flow.choice import best_flow
from t4g_tracker.flow.dis import dis_flow, refine_flow
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.stage_log import Progress

log = logging.getLogger(__name__)


def resolve_flow(config: FlowConfig) -> FlowConfig:
    """The settings with "auto" replaced by what it stands for on this machine.

    Published RAFT weights in PyTorch's cache are taken, the large ones before the small ones;
    DIS, which needs no weights, where there are none. Nothing is downloaded. Only "auto"
    looks for them; where ``config.weights`` names a file, the method has to be named too.

    Raises:
        ConfigError: If ``config.weights`` is given with "auto".
    """
    if config.method != "auto":
        return config
    if config.weights:
        raise ConfigError(
            f"flow.weights={config.weights}: say of which model; "
            "set flow.method to raft-mini, raft-small or raft-large"
        )
    from t4g_tracker.flow.raft import published_file

    if published_file("raft-large").is_file():
        return replace(config, method="raft-large")
    if published_file("raft-small").is_file():
        return replace(config, method="raft-small")
    return replace(config, method="dis")


def effective_flow(config: FlowConfig) -> FlowConfig:
    """The settings that matter to the method chosen, "auto" resolved; the others are at their defaults.

    The size of the frames is not one of them: whoever calls ``flow_size`` has used it.
    """
    config = replace(resolve_flow(config), pixels=FlowConfig.pixels)
    if config.method == "dis":
        return FlowConfig(method="dis", finest_scale=config.finest_scale)
    return replace(config, finest_scale=0) if config.refine == "none" else config


def weights_stamp(config: FlowConfig) -> str:
    """What tells one weights file from another of the same name, for cache keys."""
    mini = config.method == "raft-mini" and not config.weights
    path = RAFT_MINI if mini else Path(config.weights).expanduser()
    return f"{path.stat().st_size}:{path.stat().st_mtime_ns}" if path.is_file() else ""


def check_flow(config: FlowConfig) -> None:
    """Look whether RAFT's weights are there and fit, before any long work, and log what "auto" took.

    Raises:
        WeightsError: If they are missing, cannot be fetched or do not fit.
    """
    estimator = FlowEstimator(config, torch.device("cpu"))
    if config.method == "auto":
        log.info("optical flow: %s", estimator.config.method)


class FlowEstimator:
    """A loaded flow method: load once, ask for any frame pairs.

    Args:
        config: Which method.
        device: Where RAFT runs; DIS always runs on the CPU.

    Raises:
        WeightsError: If RAFT's weights are not there or do not fit.
    """

    def __init__(self, config: FlowConfig, device: torch.device) -> None:
        config = resolve_flow(config)
        self.config, self.device = config, device
        self._raft = None
        if config.method != "dis":
            from t4g_tracker.flow.raft import Variant, load_raft

            self._raft = load_raft(cast(Variant, config.method), config.weights, device)

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

            size = (frames.shape[-2], frames.shape[-1])
            small = _shrunk(frames, self.config.raft_scale)
            updates, refine = self.config.updates, self.config.refine != "none"
            rounds = len(pairs) * (2 if refine else 1)  # once by RAFT, once by DIS

            def advance(done: int, _: int) -> None:
                if progress is not None:
                    progress(done * len(pairs) // rounds, len(pairs))

            flows = _enlarged(raft_flow_pairs(self._raft, small, pairs, updates, self.device, advance), size)
            if refine:
                for index, (first, second) in enumerate(pairs):
                    flows[index] = self._refined(frames[first], frames[second], flows[index])
                    advance(len(pairs) + index + 1, rounds)
            return flows
        flows = torch.empty(len(pairs), 2, *frames.shape[-2:], dtype=torch.float16)
        for index, (first, second) in enumerate(pairs):
            flows[index] = dis_flow(frames[first], frames[second], self.config.finest_scale)
            if progress is not None:
                progress(index + 1, len(pairs))
        return flows

    def _refined(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """RAFT's flow (2, H, W) made precise by DIS; with "best", DIS alone where that fits better."""
        refined = refine_flow(first, second, flow, self.config.finest_scale)
        if self.config.refine == "dis":
            return refined
        own = dis_flow(first, second, self.config.finest_scale)
        return best_flow(first, second, torch.stack([own, refined]))

    def neighbours(self, frames: Tensor, progress: Progress | None = None) -> FlowSequence:
        """Flow between all neighbouring frames of (T, 3, H, W), forward and backward."""
        steps = len(frames) - 1
        pairs = [pair for t in range(steps) for pair in ((t, t + 1), (t + 1, t))]
        flows = self.pairs(frames, pairs, progress)
        return FlowSequence(flows[0::2], flows[1::2])


def _shrunk(frames: Tensor, scale: float) -> Tensor:
    """Frames (T, 3, H, W) uint8 at ``scale`` of their size."""
    if scale == 1:
        return frames
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    smaller = [resize_frames(frame[None].float(), size) for frame in frames]
    return torch.cat([frame.round().clamp(0, 255).to(torch.uint8) for frame in smaller])


def _enlarged(flows: Tensor, size: Size) -> Tensor:
    """Flows (P, 2, h, w) brought to frames of ``size``, their displacements with them."""
    small = flows.shape[-2:]
    if tuple(small) == tuple(size):
        return flows
    factor = torch.tensor([size[1] / small[1], size[0] / small[0]])[:, None, None]
    larger = torch.empty(len(flows), 2, *size, dtype=flows.dtype)
    for index, flow in enumerate(flows):
        wide = interpolate(flow[None].float(), size=size, mode="bilinear", align_corners=False)
        larger[index] = wide[0] * factor
    return larger
