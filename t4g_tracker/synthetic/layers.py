"""Textured layers whose motion is known exactly, in both directions.

A layer is a texture with an outline. Its motion has a closed form, from canonical position u
(texture pixels, the texture's middle at the origin) to frame position p:

    q = u + sum_k push_k sin(wave_k . u + phase_k)
    p = centre + linear q / (1 + tilt . q),

a smooth bend, then a similarity seen in perspective. Rendering needs the inverse. That of the
perspective has a closed form too; that of the bend has none, but the bend is a contraction, so
Newton's method finds it to a thousandth of a pixel. Tracks, visibility, flow and pictures are all
computed by these two maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import to_sample_grid
from t4g_tracker.synthetic.textures import xy_half

STEEPEST_BEND = 0.5  # bound on the bend's slope, so that it never folds a layer
INVERSE_ERROR_PX = 1e-3  # canonical pixels; the search for the inverse stops below it


@dataclass(frozen=True)
class Pose:
    """The position and shape of a layer at one time, or at several if the fields have leading dimensions."""

    centre: Tensor  # (..., 2) video pixels, position of u = 0 without the bend
    linear: Tensor  # (..., 2, 2) video pixels per canonical pixel
    phase: Tensor  # (..., K) radians, of the bend's waves
    tilt: Tensor | None = None  # (..., 2) growth of distance per canonical pixel; None: faces the camera

    def select(self, index: Tensor) -> Pose:
        """The pose with its leading dimensions indexed."""
        tilt = None if self.tilt is None else self.tilt[index]
        return Pose(self.centre[index], self.linear[index], self.phase[index], tilt)

    def widen(self, count: int) -> Pose:
        """The pose with ``count`` dimensions of size 1 after its leading ones."""
        shape = self.centre.shape[:-1] + (1,) * count
        return Pose(
            self.centre.reshape(*shape, 2),
            self.linear.reshape(*shape, 2, 2),
            self.phase.reshape(*shape, self.phase.shape[-1]),
            None if self.tilt is None else self.tilt.reshape(*shape, 2),
        )

    def spread(self, shape: torch.Size) -> Pose:
        """The pose with its leading dimensions expanded to ``shape``."""
        return Pose(
            self.centre.expand(*shape, 2),
            self.linear.expand(*shape, 2, 2),
            self.phase.expand(*shape, self.phase.shape[-1]),
            None if self.tilt is None else self.tilt.expand(*shape, 2),
        )


@dataclass(frozen=True)
class Layer:
    """A textured sheet: its look, outline and motion."""

    texture: Tensor  # (4, h, w) red, green, blue in 0..1, and canonical pixels inside the outline
    pose: Pose  # of T frames
    depth: Tensor  # (T,) no unit; of two layers, the one of smaller depth hides the other
    wave: Tensor  # (K, 2) radians per canonical pixel
    push: Tensor  # (K, 2) canonical pixels
    shadow: float = 0.0  # share of light that the layers behind lose in its shadow

    def __post_init__(self) -> None:
        if self._slope > STEEPEST_BEND:
            raise ValueError(
                f"the bend's slope must be at most {STEEPEST_BEND}, got {self._slope:.3f}; push less"
            )

    @cached_property
    def _slope(self) -> float:
        return float((self.wave.norm(dim=-1) * self.push.norm(dim=-1)).sum())

    @cached_property
    def reach(self) -> float:
        """Largest distance that the bend moves a point, in canonical pixels."""
        return float(self.push.norm(dim=-1).sum())

    @cached_property
    def curvature(self) -> float:
        """Bound on the bend's second derivative, per canonical pixel."""
        return float((self.wave.square().sum(-1) * self.push.norm(dim=-1)).sum())

    @cached_property
    def waves(self) -> list[list[float]]:
        """Wave and push of each term of the bend, as four numbers."""
        terms: list[list[float]] = torch.cat([self.wave, self.push], -1).tolist()
        return terms

    @cached_property
    def inverse_steps(self) -> tuple[int, int]:
        """Numbers of fixed-point and then Newton steps that bring the inverse within ``INVERSE_ERROR_PX``."""
        factor = self.curvature / (2 * (1 - self._slope))  # a Newton step turns an error e into factor * e^2
        error = self.reach
        fixed = newton = 0
        while factor * error > 0.3:  # too large for Newton's method
            error *= self._slope
            fixed += 1
        while error > INVERSE_ERROR_PX:
            error = factor * error**2
            newton += 1
        return fixed, newton


def pose_at(pose: Pose, frame: int | Tensor, offset: float = 0.0) -> Pose:
    """Compute the pose in a frame, or ``offset`` frames from it at the speed of that frame.

    Args:
        pose: Of T frames.
        frame: 0-based; a tensor (...) gives a pose with these leading dimensions.
        offset: Frames, positive for later.
    """
    index = torch.as_tensor(frame, device=pose.centre.device)
    if offset == 0:
        return pose.select(index)
    before = (index - 1).clamp(min=0)
    after = (index + 1).clamp(max=len(pose.centre) - 1)
    share = offset / (after - before).clamp(min=1)

    def moved(values: Tensor) -> Tensor:
        factor = share.reshape(*share.shape, *[1] * (values.ndim - 1))
        return values[index] + factor * (values[after] - values[before])

    tilt = None if pose.tilt is None else moved(pose.tilt)
    return Pose(moved(pose.centre), moved(pose.linear), moved(pose.phase), tilt)


def to_frame(layer: Layer, pose: Pose, canonical: Tensor) -> Tensor:
    """Map a layer's points to their positions in a frame.

    Args:
        layer: The layer, for its bend.
        pose: The leading dimensions of its fields broadcast with those of ``canonical``.
        canonical: (..., 2) canonical pixels.

    Returns:
        (..., 2) video pixels, exact.
    """
    x, y = canonical.unbind(-1)
    move_x, move_y = _bend(layer, pose, x, y)
    return project(pose, torch.stack([x + move_x, y + move_y], -1))


def to_canonical(layer: Layer, pose: Pose, xy: Tensor) -> Tensor:
    """Map positions in a frame to a layer's points; the inverse of ``to_frame``.

    Args:
        layer: The layer, for its bend.
        pose: As in ``to_frame``.
        xy: (..., 2) video pixels.

    Returns:
        (..., 2) canonical pixels; ``to_frame`` maps them back to within 0.01 px of ``xy``.
    """
    bent_x, bent_y = _unproject(pose, xy)
    x, y = bent_x, bent_y
    fixed, newton = layer.inverse_steps
    for _ in range(fixed):
        move_x, move_y = _bend(layer, pose, x, y)
        x, y = bent_x - move_x, bent_y - move_y
    for _ in range(newton):
        x, y = _newton_step(layer, pose, x, y, bent_x, bent_y)
    return torch.stack([x, y], -1)


def project(pose: Pose, bent: Tensor) -> Tensor:
    """Map bent canonical positions q (..., 2) to video pixels (..., 2)."""
    x, y = bent.unbind(-1)
    a, b, c, d = pose.linear.flatten(-2).unbind(-1)
    flat = torch.stack([a * x + b * y, c * x + d * y], -1)
    if pose.tilt is not None:
        flat = flat / (1 + pose.tilt[..., :1] * x[..., None] + pose.tilt[..., 1:] * y[..., None])
    return pose.centre + flat


def _unproject(pose: Pose, xy: Tensor) -> tuple[Tensor, Tensor]:
    """Invert ``project``: q = r / (1 - tilt . r), where r = linear^-1 (p - centre)."""
    x, y = (xy - pose.centre).unbind(-1)
    a, b, c, d = pose.linear.flatten(-2).unbind(-1)
    determinant = a * d - b * c
    flat_x = (d / determinant) * x - (b / determinant) * y
    flat_y = (a / determinant) * y - (c / determinant) * x
    if pose.tilt is None:
        return flat_x, flat_y
    nearer = 1 - pose.tilt[..., 0] * flat_x - pose.tilt[..., 1] * flat_y
    return flat_x / nearer, flat_y / nearer


def _bend(layer: Layer, pose: Pose, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the displacement of the smooth bend in x and in y, in canonical pixels."""
    move_x, move_y = torch.zeros_like(x), torch.zeros_like(y)
    for k, (wave_x, wave_y, push_x, push_y) in enumerate(layer.waves):
        sine = torch.sin(wave_x * x + wave_y * y + pose.phase[..., k])
        move_x = move_x + push_x * sine
        move_y = move_y + push_y * sine
    return move_x, move_y


def _newton_step(
    layer: Layer, pose: Pose, x: Tensor, y: Tensor, bent_x: Tensor, bent_y: Tensor
) -> tuple[Tensor, Tensor]:
    """Take one Newton step towards the (x, y) whose position plus bend is (bent_x, bent_y)."""
    # the error of (x, y), and its Jacobian: xy is the derivative of error_x by y
    error_x, error_y = x - bent_x, y - bent_y
    xx, yy = torch.ones_like(x), torch.ones_like(y)
    xy, yx = torch.zeros_like(x), torch.zeros_like(y)
    for k, (wave_x, wave_y, push_x, push_y) in enumerate(layer.waves):
        angle = wave_x * x + wave_y * y + pose.phase[..., k]
        sine = torch.sin(angle)
        cosine = torch.cos(angle)
        error_x = error_x + push_x * sine
        error_y = error_y + push_y * sine
        xx = xx + (push_x * wave_x) * cosine
        xy = xy + (push_x * wave_y) * cosine
        yx = yx + (push_y * wave_x) * cosine
        yy = yy + (push_y * wave_y) * cosine
    # subtract the inverse of the Jacobian times the error
    scale = 1 / (xx * yy - xy * yx)
    step_x = scale * (yy * error_x - xy * error_y)
    step_y = scale * (xx * error_y - yx * error_x)
    return x - step_x, y - step_y


def bounding_box(layer: Layer, pose: Pose) -> tuple[Tensor, Tensor]:
    """Compute a box around a whole layer: upper left and lower right corner (..., 2), video pixels."""
    height, width = layer.texture.shape[-2:]
    x = width / 2 + layer.reach
    y = height / 2 + layer.reach
    corners = layer.texture.new_tensor([[-x, -y], [x, -y], [-x, y], [x, y]])
    projected = project(pose.widen(1), corners)
    return projected.amin(-2), projected.amax(-2)


def sample(picture: Tensor, canonical: Tensor) -> Tensor:
    """Sample a texture (C, h, w) at canonical positions (..., 2): (C, ...)."""
    size = (picture.shape[-2], picture.shape[-1])
    grid = to_sample_grid(canonical + xy_half(size, picture.device), size).reshape(1, 1, -1, 2)
    values = grid_sample(picture[None], grid, padding_mode="border", align_corners=False)
    return values.reshape(len(picture), *canonical.shape[:-1])
