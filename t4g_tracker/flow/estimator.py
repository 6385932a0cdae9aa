"""Optical flow behind one interface: both ways between the frames of given pairs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from t4g_tracker.bundled import RAFT_MINI, file_identity
from t4g_tracker.datatypes import Empty, FlowFields
from t4g_tracker.errors import ConfigError, warn
from t4g_tracker.flow.resizing import enlarged, shrunk
from t4g_tracker.flow.search import search_flows
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.stage_log import Progress

if TYPE_CHECKING:
    from torchvision.models.optical_flow import RAFT

log = logging.getLogger(__name__)

STARTS = ("search_scale", "compose", "still")  # settings of where DIS starts if it does more than refine


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
        own = ("finest_scale", "patch_stride", *STARTS)
        return FlowConfig(method="dis", **{name: getattr(config, name) for name in own})
    if config.refine == "best":
        return config
    config = replace(config, **{name: getattr(FlowConfig, name) for name in STARTS})
    if config.refine == "dis":
        return config
    return replace(config, finest_scale=FlowConfig.finest_scale, patch_stride=FlowConfig.patch_stride)


def composes(config: FlowConfig) -> bool:
    """Whether flow of resolved settings may start from other flow, by way of a frame in between."""
    return config.compose and (config.method == "dis" or config.refine == "best")


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
        over_gaps: FlowFields | None = None,
    ) -> Tensor:
        """Compute the flow of a list of frame pairs.

        Args:
            frames: (T, 3, H, W) uint8.
            pairs: P pairs (from, to) of frame indices.
            progress: Called with (pairs done, pairs in all).
            empty: Makes the result.
            over_gaps: Flow of the same frames, which DIS may start from.

        Returns:
            (P, 2, H, W) float16 displacement (dx, dy) in pixels of ``frames``.
        """
        raft = self._raft
        by_dis = raft is None or self.config.refine != "none"
        first = 0 if raft is None else len(pairs)  # of the work, by RAFT
        total = first + by_dis * len(pairs)

        def advance(done: int, _: int) -> None:
            if progress is not None:
                progress(done * len(pairs) // total, len(pairs))

        if raft is None:
            flows = empty(len(pairs), 2, *frames.shape[-2:], dtype=torch.float16)
        else:
            flows = self._by_raft(raft, frames, pairs, advance, empty)
        if by_dis:
            for done in search_flows(frames, pairs, flows, self.config, over_gaps, given=raft is not None):
                advance(first + done, total)
        return flows

    def _by_raft(
        self, raft: RAFT, frames: Tensor, pairs: list[tuple[int, int]], progress: Progress, empty: Empty
    ) -> Tensor:
        """``pairs`` by RAFT alone."""
        from t4g_tracker.flow.raft import raft_flow_pairs

        small = shrunk(frames, self.config.raft_scale)
        coarse = raft_flow_pairs(raft, small, pairs, self.config.updates, self.device, progress, empty)
        return enlarged(coarse, (int(frames.shape[-2]), int(frames.shape[-1])), empty)

    def both_ways(
        self,
        frames: Tensor,
        pairs: list[tuple[int, int]],
        progress: Progress | None = None,
        empty: Empty = torch.empty,
        over_gaps: FlowFields | None = None,
    ) -> FlowFields:
        """Compute the flow of pairs of frames of (T, 3, H, W), forward and backward.

        Args:
            frames: (T, 3, H, W) uint8.
            pairs: Distinct pairs (i, j) of frame indices, i < j.
            progress: Called with (flows done, flows in all).
            empty: Makes the result.
            over_gaps: Flow of the same frames, which DIS may start from.
        """
        ways = [way for i, j in pairs for way in ((i, j), (j, i))]
        flows = self.pairs(frames, ways, progress, empty, over_gaps)
        return FlowFields(torch.tensor(pairs, dtype=torch.int64).view(-1, 2), flows[0::2], flows[1::2])
