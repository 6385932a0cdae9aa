"""Residual adapters: small networks on the RGB frame that correct the frozen features.

Every adapter returns ``aligned frozen features + residual`` with a last layer that starts
at zero, so an untrained adapter changes nothing, exactly.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, normalize, pad, pixel_unshuffle, relu

from adaptation.prepare import PreparedFeatures, align
from t4g_tracker.choices import AdapterKind, HeadKind
from t4g_tracker.coordinates import Size, centred_offset
from t4g_tracker.datatypes import Empty, FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.matching.head import CostMapHead


def _conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2)


def _mix(conv: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a convolution of kernel 1 as the matrix product that it is, without a copy of channels-last x."""
    return linear(x.permute(0, 2, 3, 1), conv.weight.flatten(1), conv.bias).permute(0, 3, 1, 2)


class _Block(nn.Module):
    """Two 3x3 convolutions with group norm around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = _conv(width, width), _conv(width, width)
        self.norm = nn.GroupNorm(8, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(relu(self.norm(self.first(x))))


class LiteAdapter(nn.Module):
    """The default adapter: most layers at strides 8 to 32, residual at stride 4.

    A U-shape reads the frame at stride 4, spends its operations on coarse grids where
    they are cheap and context is wide, and adds detail back at stride 4 from the first
    layer. The frozen features enter at stride 8, so the residual can depend on them.

    Args:
        channels: C of the frozen features.
        width: Channels at stride 8; the other levels follow from it.
    """

    stride_px = 4

    def __init__(self, channels: int, width: int = 64) -> None:
        super().__init__()
        fine, deep = width // 2, width * 2
        self.stem = _conv(48, fine)
        self.frozen = _conv(channels, width, kernel=1)
        self.down8 = _conv(fine, width, 2)
        self.block8 = _Block(width)
        self.down16 = _conv(width, deep, 2)
        self.block16 = _Block(deep)
        self.down32 = _conv(deep, deep, 2)
        self.block32 = _Block(deep)
        self.up16 = _conv(deep, deep, kernel=1)
        self.up8 = _conv(deep, width, kernel=1)
        self.merge8 = _conv(width, width)
        self.detail = _conv(fine, fine)
        self.last8 = _conv(width, channels, kernel=1)
        self.last4 = _conv(fine, channels, kernel=1)
        for layer in (self.last8, self.last4):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, frames: Tensor, frozen: Tensor) -> Tensor:
        """Frames (B, 3, H, W) in -1..1 and frozen (B, C, h, w) to adapted (B, C, H/4, W/4)."""
        x4 = relu(self.stem(pixel_unshuffle(frames, 4)))
        x8 = self.down8(x4)
        x8 = self.block8(x8 + _mix(self.frozen, align(frozen, x8.shape[-2:])))
        x16 = self.block16(self.down16(relu(x8)))
        x32 = self.block32(self.down32(relu(x16)))
        # a mix of channels and a bilinear upsampling commute: the mix is cheaper on the smaller grid
        x16 = x16 + align(_mix(self.up16, x32), x16.shape[-2:])
        x8 = x8 + align(_mix(self.up8, relu(x16)), x8.shape[-2:])
        x8 = relu(self.merge8(x8))
        coarse, size = _mix(self.last8, x8), x4.shape[-2:]
        if frozen.shape[-2:] == coarse.shape[-2:]:  # the usual stride 8: one upsampling instead of two
            corrected = align(frozen + coarse, size)
        else:
            corrected = align(frozen, size) + align(coarse, size)
        return corrected + _mix(self.last4, relu(self.detail(x4)))


class DeltaCnnAdapter(nn.Module):
    """The published adapter: channels 3-64-128-256-C, kernel 5, dilations 1, 1, 1, 2, batch norm after each.

    Three anti-aliased down-samplings by 2 bring the residual to stride 8, where the frozen
    features, aligned to the same grid, are added. Borders are padded by reflection. The last
    norm scales by 0.05 at first, so that the residual grows slowly.

    Args:
        channels: C of the frozen features.

    Source: "Delta-DINO" of DINO-Tracker, arXiv:2403.14548. The blur is a binomial filter
    after Zhang, arXiv:1904.11486.
    """

    stride_px = 8

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths, dilations = (3, 64, 128, 256, channels), (1, 1, 1, 2)
        self.convs = nn.ModuleList(
            nn.Conv2d(
                widths[i],
                widths[i + 1],
                5,
                padding=2 * dilations[i],
                dilation=dilations[i],
                padding_mode="reflect",
            )
            for i in range(4)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(width) for width in widths[1:])
        nn.init.zeros_(self.convs[3].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.convs[3].bias)  # type: ignore[arg-type]
        nn.init.constant_(self.norms[3].weight, 0.05)  # type: ignore[arg-type]

    def forward(self, frames: Tensor, frozen: Tensor) -> Tensor:
        """Frames (B, 3, H, W) in -1..1 and frozen (B, C, h, w) to adapted (B, C, H/8, W/8)."""
        x = frames
        for conv, norm in zip(self.convs[:3], self.norms[:3], strict=True):
            x = blur_halve(relu(norm(conv(x))))
        residual = self.norms[3](self.convs[3](x))
        return align(frozen, residual.shape[-2:]) + residual


def blur_halve(x: Tensor) -> Tensor:
    """Halve (B, C, H, W) after a binomial blur, edges repeated; output cells tile the frame.

    Taps 1-3-3-1 are even in number, so each output is centred between two inputs and the
    grid keeps the frame's outer edges.
    """
    # computed where x is: a constant copied there would make the GPU wait in every step
    taps = (4 - 2 * (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 8
    kernel = (taps[:, None] * taps[None]).expand(x.shape[1], 1, 4, 4)
    return conv2d(pad(x, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, groups=x.shape[1])


Adapter = LiteAdapter | DeltaCnnAdapter


def build_adapter(kind: AdapterKind, channels: int, width: int, seed: int) -> Adapter:
    """Make an untrained adapter whose hidden layers depend on ``seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # not torch.manual_seed, which seeds GPUs too
        return LiteAdapter(channels, width) if kind == "lite" else DeltaCnnAdapter(channels)


def build_head(kind: HeadKind, seed: int) -> CostMapHead | None:
    """Make an untrained head of cost maps, whose weights depend on ``seed`` alone; None for softmax."""
    if kind == "softmax":
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return CostMapHead()


def check_working_size(kind: AdapterKind, size: Size) -> None:
    """Check that an adapter can read frames of ``size`` (H, W).

    Raises:
        ConfigError: If a side is so short that ``delta-cnn`` cannot reflect the 4 cells at its border.
    """
    if kind == "delta-cnn" and min(size) <= 4 * DeltaCnnAdapter.stride_px:
        raise ConfigError(
            f"adaptation.adapter=delta-cnn needs a working size of more than {4 * DeltaCnnAdapter.stride_px} "
            f"px a side, got {size[1]}x{size[0]}; raise working_size.pixels, or take lite"
        )


def normalise_frames(frames: Tensor) -> Tensor:
    """Convert (B, 3, H, W) uint8 to float32 in -1..1."""
    return frames.float() / 127.5 - 1


@torch.no_grad()
def apply_adapter(
    adapter: Adapter,
    features: PreparedFeatures,
    frames: Tensor,
    device: torch.device,
    precision: torch.dtype = torch.float32,
    batch: int = 4,
    empty: Empty = torch.empty,
) -> FeatureGrid:
    """Run an adapter over the whole video.

    Args:
        adapter: From ``build_adapter`` or ``Adaptation.adapter``.
        features: Prepared features of T frames.
        frames: (T, 3, H, W) uint8 at the working size.
        device: Where to compute.
        precision: Autocast type; float32 for none.
        batch: Frames at a time, which bounds memory.
        empty: Makes the result.

    Returns:
        The adapted grid at unit length, half precision, on the CPU; channels last in memory, as tracking
        reads them.
    """
    was_training = adapter.training
    adapter.eval()
    values: Tensor | None = None
    for begin in range(0, len(frames), batch):
        part = slice(begin, begin + batch)
        frozen = features.values[part].to(device).to(precision)
        with torch.autocast(device.type, precision, enabled=precision != torch.float32):
            adapted = adapter(normalise_frames(frames[part].to(device)), frozen)
        if values is None:
            channels, height, width = adapted.shape[1:]
            values = empty(len(frames), height, width, channels, dtype=torch.float16).permute(0, 3, 1, 2)
        values[part] = normalize(adapted.float(), dim=1, eps=1e-6).half().cpu()
    adapter.train(was_training)
    stride = adapter.stride_px
    assert values is not None
    return FeatureGrid(values, stride, centred_offset(stride), features.working_size)
