"""Optical flow behind one interface: both ways between the frames of given pairs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.bundled import RAFT_MINI, file_identity
from t4g_tracker.coordinates import Size, resize_frames
from t4g_tracker.datatypes import Empty, FlowFields
from t4g_tracker.errors import ConfigError, warn
from t4g_tracker.flow.dis import dis_flow, refine_flow
from t4g_tracker.flow.fusion import best_flow
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.stage_log import Progress
from t4g_tracker.threads import in_threads

if TYPE_CHECKING:
    from torchvision.models.optical_flow import RAFT

log = logging.getLogger(__name__)


def resolve_flow(config: FlowConfig) -> FlowConfig:
    """Replace "auto" by the method that it stands for on this machine.

    That is RAFT with published weights if PyTorch's cache has them, large before small, else DIS,
    which needs no weights. Nothing is downloaded. RAFT is then refined, since its flow, blurred by
    working at an eighth of the frame's size, loses to DIS when chained. If ``config.weights`` names a
    file, the method must be named too.

    Raises:
        ConfigError: If ``config.weights`` is given with "auto".
    """
    if config.method != "auto":
        return config
    if config.weights:
        raise ConfigError(
            f"flow.weights={config.weights}: flow.method is auto; "
            "set it to the model of these weights, raft-mini, raft-small or raft-large"
        )
    from t4g_tracker.flow.raft import published_file

    refine = "best" if config.refine == "none" else config.refine
    if published_file("raft-large").is_file():
        return replace(config, method="raft-large", refine=refine)
    if published_file("raft-small").is_file():
        return replace(config, method="raft-small", refine=refine)
    return replace(config, method="dis")


def effective_flow(config: FlowConfig) -> FlowConfig:
    """Resolve "auto", and reset settings that the chosen method does not use to their defaults.

    ``pixels`` is reset too: ``flow_size`` has used it, and the frames have that size.
    """
    config = replace(resolve_flow(config), pixels=FlowConfig.pixels)
    if config.method == "dis":
        return FlowConfig(method="dis", finest_scale=config.finest_scale, patch_stride=config.patch_stride)
    if config.refine != "none":
        return config
    return replace(config, finest_scale=FlowConfig.finest_scale, patch_stride=FlowConfig.patch_stride)


def weights_stamp(config: FlowConfig) -> str:
    """Identify the weights file of a method, for cache keys; empty if there is none."""
    if config.weights:
        path = Path(config.weights).expanduser()
    elif config.method == "raft-mini":
        path = RAFT_MINI
    elif config.method in ("raft-small", "raft-large"):
        from t4g_tracker.flow.raft import published_file

        path = published_file(config.method)
    else:
        return ""
    return file_identity(path) if path.is_file() else ""


def check_flow(config: FlowConfig) -> None:
    """Check that RAFT's weights exist and fit, before any long work; log what "auto" chose.

    Raises:
        WeightsError: If they are missing, cannot be fetched or do not fit.
    """
    estimator = FlowEstimator(config, torch.device("cpu"))
    if config.method == "auto":
        log.info("optical flow: %s", estimator.config.method)


def check_named_weights(config: FlowConfig) -> None:
    """Check the file that ``flow.weights`` names, if it names one, before any work.

    Raises:
        ConfigError: If the method is "auto".
        WeightsError: If the file is missing, cannot be read or does not fit the method.
    """
    if config.weights:
        method = FlowEstimator(config, torch.device("cpu")).config.method
        if method == "dis":
            warn(
                f"flow.weights={config.weights}: flow.method is dis, which reads no weights; set flow.method "
                "to raft-mini, raft-small or raft-large, or leave flow.weights empty"
            )


class FlowEstimator:
    """A flow method, loaded once, for any frame pairs.

    Args:
        config: Which method.
        device: Where RAFT runs; DIS always runs on the CPU.

    Raises:
        WeightsError: If RAFT's weights are missing or do not fit.
    """

    def __init__(self, config: FlowConfig, device: torch.device) -> None:
        config = resolve_flow(config)
        self.config, self.device = config, device
        self._raft = None
        if config.method != "dis":
            from t4g_tracker.flow.raft import Variant, load_raft

            self._raft = load_raft(cast(Variant, config.method), config.weights, device)

    def pairs(
        self,
        frames: Tensor,
        pairs: list[tuple[int, int]],
        progress: Progress | None = None,
        empty: Empty = torch.empty,
    ) -> Tensor:
        """Compute the flow of a list of frame pairs.

        Args:
            frames: (T, 3, H, W) uint8.
            pairs: P pairs (from, to) of frame indices.
            progress: Called with (pairs done, pairs in all).
            empty: Makes the result.

        Returns:
            (P, 2, H, W) float16 displacement (dx, dy) in pixels of ``frames``.
        """
        if self._raft is not None:
            return self._raft_pairs(self._raft, frames, pairs, progress, empty)
        flows = empty(len(pairs), 2, *frames.shape[-2:], dtype=torch.float16)

        def store(index: int) -> None:
            first, second = pairs[index]
            flows[index] = self._dis(frames[first], frames[second])

        for done, _ in enumerate(in_threads(store, range(len(pairs))), 1):
            if progress is not None:
                progress(done, len(pairs))
        return flows

    def _dis(self, first: Tensor, second: Tensor) -> Tensor:
        return dis_flow(first, second, self.config.finest_scale, self.config.patch_stride)

    def _raft_pairs(
        self,
        raft: RAFT,
        frames: Tensor,
        pairs: list[tuple[int, int]],
        progress: Progress | None,
        empty: Empty,
    ) -> Tensor:
        """``pairs`` by RAFT, refined by DIS if the settings say so."""
        from t4g_tracker.flow.raft import raft_flow_pairs

        size = (frames.shape[-2], frames.shape[-1])
        small = _shrunk(frames, self.config.raft_scale)
        updates, refine = self.config.updates, self.config.refine != "none"
        rounds = len(pairs) * (2 if refine else 1)  # once by RAFT, once by DIS

        def advance(done: int, _: int) -> None:
            if progress is not None:
                progress(done * len(pairs) // rounds, len(pairs))

        coarse = raft_flow_pairs(raft, small, pairs, updates, self.device, advance, empty)
        flows = _enlarged(coarse, size, empty)
        if refine:

            def store(index: int) -> None:
                first, second = pairs[index]
                flows[index] = self._refined(frames[first], frames[second], flows[index])

            for done, _ in enumerate(in_threads(store, range(len(pairs))), len(pairs) + 1):
                advance(done, rounds)
        return flows

    def _refined(self, first: Tensor, second: Tensor, flow: Tensor) -> Tensor:
        """Refine RAFT's flow (2, H, W) by DIS; with "best", take DIS alone where that fits better."""
        refined = refine_flow(first, second, flow, self.config.finest_scale, self.config.patch_stride)
        if self.config.refine == "dis":
            return refined
        own = self._dis(first, second)
        return best_flow(first, second, torch.stack([own, refined]))

    def both_ways(
        self,
        frames: Tensor,
        pairs: list[tuple[int, int]],
        progress: Progress | None = None,
        empty: Empty = torch.empty,
    ) -> FlowFields:
        """Compute the flow of pairs of frames of (T, 3, H, W), forward and backward.

        Args:
            frames: (T, 3, H, W) uint8.
            pairs: Distinct pairs (i, j) of frame indices, i < j.
            progress: Called with (flows done, flows in all).
            empty: Makes the result.
        """
        flows = self.pairs(frames, [way for i, j in pairs for way in ((i, j), (j, i))], progress, empty)
        return FlowFields(torch.tensor(pairs, dtype=torch.int64).view(-1, 2), flows[0::2], flows[1::2])


def _shrunk(frames: Tensor, scale: float) -> Tensor:
    """Frames (T, 3, H, W) uint8 at ``scale`` of their size."""
    if scale == 1:
        return frames
    size = (max(1, round(frames.shape[-2] * scale)), max(1, round(frames.shape[-1] * scale)))
    smaller = [resize_frames(frame[None].float(), size) for frame in frames]
    return torch.cat([frame.round().clamp(0, 255).to(torch.uint8) for frame in smaller])


def _enlarged(flows: Tensor, size: Size, empty: Empty = torch.empty) -> Tensor:
    """Flows (P, 2, h, w) enlarged to frames of ``size``, displacements scaled along."""
    small = flows.shape[-2:]
    if tuple(small) == tuple(size):
        return flows
    factor = torch.tensor([size[1] / small[1], size[0] / small[0]])[:, None, None]
    larger = empty(len(flows), 2, *size, dtype=flows.dtype)
    for index, flow in enumerate(flows):
        wide = interpolate(flow[None].float(), size=size, mode="bilinear", align_corners=False)
        larger[index] = wide[0] * factor
    return larger
