"""Random crops of pairs of frames with exact flow: resized, mirrored, recoloured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import resize_frames
from t4g_tracker.errors import ConfigError
from t4g_tracker.limits import HUGE, Limits, check_limits
from t4g_tracker.synthetic.clips import GAPS, FlowPair
from t4g_tracker.synthetic.random_motion import log_uniform
from t4g_tracker.synthetic.textures import choice, uniform
from t4g_tracker.training.loop.batches import TensorBatch

LARGEST_FLOW_PX = 400.0  # larger flow is not trained on, as in RAFT's own training
UPSIDE_DOWN = 0.2  # share of crops that are turned upside down


@dataclass(frozen=True, kw_only=True)
class PairsConfig:
    """The pairs of frames to train on, and the crops taken of them."""

    count: int = 6000  # different pairs
    height: int = 320  # of the frames, pixels
    width: int = 480
    gaps: tuple[int, ...] = GAPS  # frames between the two of a pair; each entry is equally likely
    largest_motion: float = 1.0  # half of a pair's pixels move by at most this share of the diagonal
    crop_height: int = 128  # of the network's input, a multiple of 8, at least 128
    crop_width: int = 160
    smallest_scale: float = 0.35  # of a crop, if the frame is large enough for it
    largest_scale: float = 1.2
    views: int = 2  # crops each time a pair is read: generating a pair takes longer than training on one
    relit: float = 0.4  # share of crops whose second frame differs in light and colours from the first
    erased: float = 0.2  # share of crops in which a patch of the second frame is hidden

    LIMITS: ClassVar[Limits] = {
        "count": (1, HUGE),
        "height": (128, 4096),
        "width": (128, 4096),
        "gaps": (1, 64),
        "largest_motion": (0.01, 10),
        "crop_height": (128, 4096),
        "crop_width": (128, 4096),
        "smallest_scale": (0.05, 10),
        "largest_scale": (0.05, 10),
        "views": (1, 1000),
        "relit": (0, 1),
        "erased": (0, 1),
    }

    def __post_init__(self) -> None:
        check_limits(self, "pairs")
        if not self.gaps:
            raise ConfigError("pairs.gaps has no entry; give at least one number of frames")
        for name in ("crop_height", "crop_width"):
            if getattr(self, name) % 8:
                raise ConfigError(f"pairs.{name} must be a multiple of 8, got {getattr(self, name)}")
        if self.smallest_scale > self.largest_scale:
            raise ConfigError(
                f"pairs.smallest_scale must be at most pairs.largest_scale, {self.largest_scale}, "
                f"got {self.smallest_scale}"
            )
        smallest = (self.crop_height / self.largest_scale, self.crop_width / self.largest_scale)
        if smallest[0] > self.height or smallest[1] > self.width:
            raise ConfigError(
                "pairs: crop_height and crop_width must fit into height and width at largest_scale"
            )

    @property
    def bytes_each(self) -> int:
        """Size of a cached pair: two pictures, two flows in half precision, two masks."""
        return self.height * self.width * 2 * (3 + 4 + 1)


@dataclass(frozen=True)
class FlowBatch(TensorBatch):
    """B pairs of frames with flow both ways; index 0 of the second dimension is the first frame."""

    images: Tensor  # (B, 2, 3, h, w) uint8
    flow: Tensor  # (B, 2, 2, h, w) float32 pixels, from each frame to the other
    seen: Tensor  # (B, 2, h, w) bool, true where the point is visible in the other frame
    known: Tensor  # (B, 2, h, w) bool, false where the flow is too large to train on


def crop_pair(pair: FlowPair, config: PairsConfig, generator: torch.Generator) -> FlowBatch:
    """Take one random crop of a pair.

    Args:
        pair: Two frames, large enough for the crop at ``config.largest_scale``.
        config: Size and changes of the crop.
        generator: Random numbers, on the CPU.

    Returns:
        A batch of one pair: cut out, resized, mirrored or turned upside down, recoloured. The flow is
        changed accordingly, and points that leave the crop count as hidden.
    """
    images, flow, seen = _cut_out(pair, config, generator)
    if uniform(generator, 0, 1) < 0.5:
        images, flow, seen = _mirror(images, flow, seen, axis=-1)
    if uniform(generator, 0, 1) < UPSIDE_DOWN:
        images, flow, seen = _mirror(images, flow, seen, axis=-2)
    if uniform(generator, 0, 1) < 0.5:  # swap the two frames
        images, flow, seen = images.flip(0), flow.flip(0), seen.flip(0)
    images = _recolour(images, config, generator)
    return FlowBatch(
        (images * 255).round().to(torch.uint8)[None],
        flow[None].contiguous(),
        (seen & _stays(flow))[None],
        (flow.norm(dim=1) < LARGEST_FLOW_PX)[None],
    )


def _cut_out(
    pair: FlowPair, config: PairsConfig, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Cut out images (2, 3, h, w) in 0..1, flow (2, 2, h, w) and visibility (2, h, w), resized at random."""
    images = torch.stack([pair.first, pair.second])
    flow = torch.stack([pair.forward, pair.backward])
    seen = torch.stack([pair.forward_valid, pair.backward_valid])
    size = (config.crop_height, config.crop_width)
    height, width = images.shape[-2:]
    low = max(config.smallest_scale, size[0] / height, size[1] / width)
    scale = log_uniform(generator, low, max(low, config.largest_scale))
    tall = min(height, round(size[0] / scale))
    wide = min(width, round(size[1] / scale))
    top = choice(generator, height - tall + 1)
    left = choice(generator, width - wide + 1)
    cut = (slice(top, top + tall), slice(left, left + wide))
    images = resize_frames(images[..., *cut].float() / 255, size)
    factor = torch.tensor([size[1] / wide, size[0] / tall])[:, None, None]
    flow = interpolate(flow[..., *cut], size=size, mode="nearest-exact") * factor
    seen = interpolate(seen[:, None, *cut].float(), size=size, mode="nearest-exact")[:, 0] > 0
    return images, flow, seen


def _mirror(images: Tensor, flow: Tensor, seen: Tensor, axis: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mirror frames and masks along ``axis``, -1 for x and -2 for y, and reverse the flow along it."""
    flow = flow.flip(axis).clone()
    flow[:, -1 - axis] *= -1
    return images.flip(axis), flow, seen.flip(axis)


def _stays(flow: Tensor) -> Tensor:
    """Test which pixels' flow (2, 2, h, w) ends inside the picture: (2, h, w)."""
    height, width = flow.shape[-2:]
    x = flow[:, 0] + torch.arange(width)
    y = flow[:, 1] + torch.arange(height)[:, None]
    return (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)


def _recolour(images: Tensor, config: PairsConfig, generator: torch.Generator) -> Tensor:
    """Change colours and light of frames (2, 3, h, w), and hide a patch of the second in some."""
    if uniform(generator, 0, 1) < 0.3:
        images = images[:, torch.randperm(3, generator=generator)]
    alike = uniform(generator, 0, 1) >= config.relit
    gain = _jitter(generator, 0.15, alike)
    gamma = _jitter(generator, 0.2, alike)
    lift = _jitter(generator, 0.03, alike)
    tint = torch.exp(0.05 * torch.randn(2, 3, 1, 1, generator=generator))
    tint = tint[:1].expand_as(tint) if alike else tint
    images = (images.clamp(1e-3, 1) ** gamma.exp() * gain.exp() * tint + lift).clamp(0, 1)
    if uniform(generator, 0, 1) < config.erased:
        height, width = images.shape[-2:]
        tall = round(uniform(generator, 0.1, 0.35) * height)
        wide = round(uniform(generator, 0.1, 0.35) * width)
        top = choice(generator, height - tall + 1)
        left = choice(generator, width - wide + 1)
        images[1, :, top : top + tall, left : left + wide] = images[1].mean(dim=(1, 2))[:, None, None]
    return images


def _jitter(generator: torch.Generator, width: float, alike: bool) -> Tensor:
    """Sample numbers (2, 1, 1, 1) for two frames: the same for both if ``alike``, else correlated."""
    common = width * torch.randn(1, 1, 1, 1, generator=generator)
    own = width * torch.randn(2, 1, 1, 1, generator=generator)
    return common.expand(2, 1, 1, 1) if alike else common + 0.6 * own
