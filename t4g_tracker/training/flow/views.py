"""Training items for optical flow: pairs of frames with exact flow, kept on disk, looked at anew."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torch.utils.data import Dataset

from t4g_tracker.coordinates import resize_frames
from t4g_tracker.errors import ConfigError
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.seeds import generator_for
from t4g_tracker.synthetic.clips import CLIPS_VERSION, FlowPair, draw_pair, train_generator
from t4g_tracker.synthetic.random_motion import log_uniform
from t4g_tracker.synthetic.textures import choice, uniform
from t4g_tracker.training.loop.batches import TensorBatch
from t4g_tracker.training.loop.items import cached_or_generated

LARGEST_FLOW_PX = 400.0  # what moves farther teaches nothing, as in RAFT's own training


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """Which pairs of frames are trained on, and how much of each is looked at."""

    count: int = 6000  # different pairs
    height: int = 320  # of each, pixels
    width: int = 480
    crop_height: int = 128  # of what the network sees, a multiple of 8, at least 128
    crop_width: int = 160
    smallest_scale: float = 0.35  # a view is shrunk to so much at most, as far as the frame reaches
    largest_scale: float = 1.2
    views: int = 2  # of a pair each time it is drawn or read: drawing it takes longer than training on one
    relit: float = 0.4  # share of views whose second frame has other light and colours than the first
    erased: float = 0.2  # share of views with a patch of the second frame hidden

    def __post_init__(self) -> None:
        for name in ("crop_height", "crop_width"):
            if getattr(self, name) < 128 or getattr(self, name) % 8:
                raise ConfigError(
                    f"pairs.{name} must be a multiple of 8 and at least 128, got {getattr(self, name)}"
                )
        for name in ("count", "views"):
            if getattr(self, name) < 1:
                raise ConfigError(f"pairs.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.smallest_scale <= self.largest_scale:
            raise ConfigError("pairs: smallest_scale must be positive and not above largest_scale")
        need = (self.crop_height / self.largest_scale, self.crop_width / self.largest_scale)
        if need[0] > self.height or need[1] > self.width:
            raise ConfigError(
                "pairs: crop_height and crop_width must fit into height and width at largest_scale"
            )
        for name in ("relit", "erased"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"pairs.{name} must be in 0..1, got {getattr(self, name)}")

    @property
    def bytes_each(self) -> int:
        """Size of a kept pair: two pictures, two flows in half precision, two masks."""
        return self.height * self.width * 2 * (3 + 4 + 1)


@dataclass(frozen=True)
class FlowBatch(TensorBatch):
    """B pairs of frames with the flow both ways; index 0 of the second dimension is the first frame."""

    images: Tensor  # (B, 2, 3, h, w) uint8
    flow: Tensor  # (B, 2, 2, h, w) float32 pixels, from each frame to the other
    seen: Tensor  # (B, 2, h, w) bool, true where the point is seen in the other frame
    known: Tensor  # (B, 2, h, w) bool, false where the flow is too far to teach anything


class FlowViews(Dataset[FlowBatch]):
    """Random views of drawn pairs.

    Args:
        config: Pairs and views.
        seed: Of both; other seeds give other pairs, none of them of ``synthetic-val``.
        folder: Where pairs are kept once drawn; None draws them every time.
    """

    def __init__(self, config: PairsConfig, seed: int, folder: Path | None = None) -> None:
        self.config, self.seed, self.folder = config, seed, folder

    def __len__(self) -> int:
        return self.config.count

    def __getitem__(self, item: tuple[int, int]) -> FlowBatch:
        """``config.views`` views of pair ``item[0]``, as a batch; other ones for every ``item[1]``."""
        generator = generator_for(f"view {self.seed} {item[1]}")
        pair = self.pair(item[0])
        return collate_pairs([look_at_pair(pair, self.config, generator) for _ in range(self.config.views)])

    def pair(self, index: int) -> FlowPair:
        """The same pair whenever it is asked for."""
        size = (self.config.height, self.config.width)
        if self.folder is None:
            return draw_pair(train_generator(self.seed, index), size)
        name = f"pair-v{CLIPS_VERSION}-{size[0]}x{size[1]}-{self.seed}-{index}.npz"
        path = prepare_output_folder(self.folder) / name

        def draw() -> FlowPair:
            return _with_flow(draw_pair(train_generator(self.seed, index), size), torch.float16)

        return _with_flow(cached_or_generated(path, FlowPair, draw), torch.float32)


def collate_pairs(items: list[FlowBatch]) -> FlowBatch:
    """Put batches of views of the same size into one."""
    return FlowBatch(
        *(torch.cat([getattr(item, entry.name) for item in items]) for entry in fields(FlowBatch))
    )


def look_at_pair(pair: FlowPair, config: PairsConfig, generator: torch.Generator) -> FlowBatch:
    """Take one random view of a pair.

    Args:
        pair: Two frames of at least the crop's size at ``config.largest_scale``.
        config: Size and changes of the view.
        generator: Random numbers, on the CPU.

    Returns:
        A batch of one pair: cut out, brought to another scale, mirrored or turned
        upside down, in other colours. Flow is scaled along, and
        points that leave the view count as not seen.
    """
    size = (config.crop_height, config.crop_width)
    images = torch.stack([pair.first, pair.second])
    flow = torch.stack([pair.forward, pair.backward])
    seen = torch.stack([pair.forward_valid, pair.backward_valid])
    height, width = images.shape[-2:]
    low = max(config.smallest_scale, size[0] / height, size[1] / width)
    scale = log_uniform(generator, low, max(low, config.largest_scale))
    tall, wide = min(height, round(size[0] / scale)), min(width, round(size[1] / scale))
    top, left = choice(generator, height - tall + 1), choice(generator, width - wide + 1)
    cut = (slice(top, top + tall), slice(left, left + wide))
    pixels = resize_frames(images[..., *cut].float() / 255, size)
    factor = torch.tensor([size[1] / wide, size[0] / tall])[:, None, None]
    flow = interpolate(flow[..., *cut], size=size, mode="nearest-exact") * factor
    seen = interpolate(seen[:, None, *cut].float(), size=size, mode="nearest-exact")[:, 0] > 0
    for axis in (-1, -2):
        if uniform(generator, 0, 1) < (0.5 if axis == -1 else 0.2):
            pixels, flow, seen = pixels.flip(axis), flow.flip(axis).clone(), seen.flip(axis)
            flow[:, 0 if axis == -1 else 1] *= -1
    if uniform(generator, 0, 1) < 0.5:
        pixels, flow, seen = pixels.flip(0), flow.flip(0), seen.flip(0)
    pixels = _recoloured(pixels, config, generator)
    known = flow.norm(dim=1) < LARGEST_FLOW_PX
    return FlowBatch(
        (pixels * 255).round().to(torch.uint8)[None],
        flow[None].contiguous(),
        (seen & _stays(flow))[None],
        known[None],
    )


def _stays(flow: Tensor) -> Tensor:
    """(2, h, w) whether the flow (2, 2, h, w) of a pixel ends inside the picture."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width)
    y = flow[:, 1] + torch.arange(height)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _recoloured(pixels: Tensor, config: PairsConfig, generator: torch.Generator) -> Tensor:
    """Frames (2, 3, h, w) in other colours and light, at times with a patch of the second hidden."""
    if uniform(generator, 0, 1) < 0.3:
        pixels = pixels[:, torch.randperm(3, generator=generator)]
    alike = uniform(generator, 0, 1) >= config.relit
    gain, gamma, lift = (_jitter(generator, width, alike) for width in (0.15, 0.2, 0.03))
    tint = torch.exp(0.05 * torch.randn(2, 3, 1, 1, generator=generator))
    tint = tint[:1].expand_as(tint) if alike else tint
    pixels = (pixels.clamp(1e-3, 1) ** gamma.exp() * gain.exp() * tint + lift).clamp(0, 1)
    if uniform(generator, 0, 1) < config.erased:
        height, width = pixels.shape[-2:]
        tall, wide = (round(uniform(generator, 0.1, 0.35) * side) for side in (height, width))
        top, left = choice(generator, height - tall + 1), choice(generator, width - wide + 1)
        pixels[1, :, top : top + tall, left : left + wide] = pixels[1].mean(dim=(1, 2))[:, None, None]
    return pixels


def _jitter(generator: torch.Generator, width: float, alike: bool) -> Tensor:
    """(2, 1, 1, 1) random numbers for two frames, much the same or, at times, different."""
    common = width * torch.randn(1, 1, 1, 1, generator=generator)
    own = width * torch.randn(2, 1, 1, 1, generator=generator)
    return common.expand(2, 1, 1, 1) if alike else common + 0.6 * own


def _with_flow(pair: FlowPair, dtype: torch.dtype) -> FlowPair:
    """A pair with its flow in another precision; half rounds it to a 2000th of it."""
    most = 60_000.0  # what half precision holds; such flow is not looked at
    return replace(
        pair,
        forward=pair.forward.clamp(-most, most).to(dtype),
        backward=pair.backward.clamp(-most, most).to(dtype),
    )
