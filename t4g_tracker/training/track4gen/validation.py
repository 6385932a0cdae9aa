"""Validation of a model in training: denoising, and tracking through held-out clips."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from t4g_tracker.datatypes import Tracks, Video
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.metrics import sample_queries, score
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig
from t4g_tracker.training.track4gen.dataset import collate_clips
from t4g_tracker.training.track4gen.denoising import denoised
from t4g_tracker.training.track4gen.objective import Track4GenObjective

SIGMAS = (0.1, 0.5, 1.0, 3.0, 10.0)
MOST_QUERIES = 128


@dataclass(frozen=True)
class Track4GenValidation:
    """The figures recorded during training, measured on held-out clips."""

    clips: list[TrainingClip]

    def __call__(self, objective: Track4GenObjective) -> dict[str, float]:
        """Compute the mean figures of an objective with averaged weights.

        "denoise@s" is the squared error of the denoised latents at noise level s, as a share
        of their variance about each channel's mean, which is the error of predicting that mean.
        "delta_avg" is TAP-Vid's, of zero-shot matching at the clips' size, without sub-pixel refinement.
        """
        figures: dict[str, list[float]] = {"delta_avg": []}
        with torch.random.fork_rng():  # the same noise every time, without changing training's random numbers
            torch.manual_seed(0)
            for number, clip in enumerate(self.clips):
                for sigma in SIGMAS:
                    figures.setdefault(f"denoise@{sigma:g}", []).append(
                        denoising_error(objective, clip.frames, sigma, number)
                    )
                figures["delta_avg"].append(zero_shot(objective, clip))
        return {name: sum(values) / len(values) for name, values in figures.items()}


@torch.no_grad()
def denoising_error(objective: Track4GenObjective, frames: Tensor, sigma: float, seed: int) -> float:
    """Compute the squared error of one segment's denoised latents, over that of their channels' means.

    Args:
        objective: The objective whose UNet denoises.
        frames: (T, 3, H, W) uint8; only the first segment is used.
        sigma: Noise level, in standard deviations of the latents.
        seed: Seed of the noise.
    """
    generator = torch.Generator().manual_seed(seed)
    device = next(objective.unet.parameters()).device
    pixels = (frames[: objective.segment_frames].to(device).float() / 127.5 - 1)[None]
    latents = objective.encode(pixels)
    noisy = latents + sigma * torch.randn(latents.shape, generator=generator).to(device)
    level = torch.full((1,), sigma, device=device)
    output, _ = objective.run_unet(pixels, noisy, level, torch.ones(1, device=device))
    error = denoised(noisy, output.float(), level) - latents
    spread = latents - latents.mean(dim=(0, 1, 3, 4), keepdim=True)
    return float(error.square().mean() / spread.square().mean())


def zero_shot(objective: Track4GenObjective, clip: TrainingClip) -> float:
    """Compute delta_avg of matching the features without adaptation, with strided queries."""
    features = objective.features(clip.frames, torch.Generator().manual_seed(0))
    truth = Tracks.known(clip.xy, clip.visibility)
    queries, which = sample_queries(truth, "strided", stride=8)
    chosen = torch.randperm(len(queries), generator=torch.Generator().manual_seed(0))[:MOST_QUERIES]
    queries, which = queries.subset(chosen), which[chosen]
    video = Video(clip.frames.permute(0, 2, 3, 1).numpy(), 24.0, "validation", "validation")
    tracks = track(
        queries, features, video, MatchingConfig(), TrackingConfig(subpixel=False), VisibilityConfig()
    )
    return score(tracks, truth.subset(which), queries, video.size, "strided").delta_avg


@dataclass(frozen=True)
class AutoencoderValidation:
    """The loss of an autoencoder's objective on held-out clips."""

    clips: list[TrainingClip]

    @torch.no_grad()
    def __call__(self, objective: nn.Module) -> dict[str, float]:
        """Measure "error": the mean absolute error of pixels in -1..1."""
        device = next(objective.parameters()).device
        errors = [
            float(objective(collate_clips([_middle(clip)]).to(device))["pixels"]) for clip in self.clips
        ]
        return {"error": sum(errors) / len(errors)}


def _middle(clip: TrainingClip) -> TrainingClip:
    """Cut out the middle 128 x 128 pixels of the first four frames; less of a smaller clip."""
    height, width = clip.frames.shape[-2:]
    top, left = max(0, (height - 128) // 2), max(0, (width - 128) // 2)
    return TrainingClip(clip.frames[:4, :, top : top + 128, left : left + 128], clip.xy, clip.visibility)
