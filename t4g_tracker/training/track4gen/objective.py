"""Track4Gen's joint objective: denoise a video, and match its points by features of the UNet.

The features come from the same block as in the extractor, and are refined; their correspondence loss
is added to the diffusion loss.

Source: Track4Gen, arXiv:2412.06016.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor, nn
from torch.nn.functional import interpolate

from t4g_tracker.coordinates import Size, centred_offset
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.feedback import Feedback, add_after
from t4g_tracker.features.not_here import NotHere
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.segments import segment_plan
from t4g_tracker.features.settings import DiffusionConfig
from t4g_tracker.limits import Limits, check_limits
from t4g_tracker.training.loop.frozen import FrozenModels
from t4g_tracker.training.track4gen.correspondence import correspondence_loss, position_loss, sample_pairs
from t4g_tracker.training.track4gen.dataset import ClipBatch
from t4g_tracker.training.track4gen.denoising import (
    denoised,
    denoising_loss,
    network_input,
    network_time,
    sample_sigma,
)


@dataclass(frozen=True, kw_only=True)
class ObjectiveConfig:
    """The losses that train UNet and refiner, and the noise."""

    correspondence: float = 1.0  # weight of the correspondence loss: lambda; 0 is "finetuned SVD"
    loss: Literal["cross-entropy", "huber"] = "cross-entropy"  # huber: of the soft-argmax's position
    radius_px: float = 35.0  # of huber: reach of the soft-argmax around the best cell, pixels of the crop
    hidden: float = 0.0  # weight of "not here" for hidden points, whose class 0 leaves out
    hidden_share: float = 0.2  # of each frame's pairs, with that class
    refiner: bool = True  # false applies the correspondence loss to the raw features
    refiner_start: Literal["random", "identity"] = "random"  # of a new refiner
    feedback: bool = False  # add refined features, behind a stop-gradient, to the block's output
    trained: Literal["all", "temporal"] = "all"  # of the UNet: all, or its temporal_transformer_blocks
    block: int = DiffusionConfig.block  # UNet up-block whose output, upsampled, is refined
    temperature: float = 0.05  # of the softmax over cosine similarities
    pairs_per_frame: int = 64  # points to match in each frame
    sigma_mean: float = 0.7  # of the logarithm of the noise level, as in SVD's training
    sigma_spread: float = 1.6  # its standard deviation
    low_noise_share: float = 0.5  # share of clips that get low_noise_sigma instead
    low_noise_sigma: float = DiffusionConfig.noise_sigma  # the noise level at which features are taken
    drop_image: float = 0.1  # share of segments that are not conditioned on their first frame
    noise_aug_strength: float = DiffusionConfig.noise_aug_strength  # noise on that frame, in -1..1
    fps: int = DiffusionConfig.fps
    motion_bucket_id: int = DiffusionConfig.motion_bucket_id
    train_image_encoder: bool = False  # for the mini model: no CLIP of its size is published
    gradient_checkpointing: bool = False  # the UNet recomputes activations: less memory, more time

    LIMITS: ClassVar[Limits] = {
        "correspondence": (0, 1e6),
        "radius_px": (0.5, 4096),
        "hidden": (0, 1e6),
        "hidden_share": (0, 0.9),
        "block": (0, 20),
        "temperature": (0.001, 10),
        "pairs_per_frame": (1, 10_000),
        "sigma_mean": (-10, 10),
        "sigma_spread": (0, 10),
        "low_noise_share": (0, 1),
        "low_noise_sigma": (1e-4, 700),
        "drop_image": (0, 0.999),
        "noise_aug_strength": (0, 10),
        "fps": (1, 1000),
        "motion_bucket_id": (0, 1000),
    }

    def __post_init__(self) -> None:
        check_limits(self, "objective")
        if self.feedback and not self.refines:
            raise ConfigError(
                "objective.feedback is of refined features; set objective.refiner=true and"
                " objective.correspondence above 0, or objective.feedback=false"
            )
        if self.hidden and self.loss != "cross-entropy":
            raise ConfigError(
                "objective.hidden adds a class to the cross-entropy; set objective.loss=cross-entropy, or"
                " objective.hidden=0"
            )

    @property
    def refines(self) -> bool:
        """Whether a refiner is trained."""
        return self.refiner and self.correspondence > 0

    @property
    def names_hidden(self) -> bool:
        """Whether the class "not here" is trained."""
        return self.hidden > 0 and self.correspondence > 0


class Track4GenObjective(nn.Module):
    """A pipeline's UNet and a refiner, trained together; the rest of the pipeline does not change.

    Args:
        pipeline: A pipeline in Stable Video Diffusion's layout.
        refiner: A refiner with the channels of the UNet's block.
        config: Losses and noise.
        segment_frames: N frames that the UNet sees at once.
        feedback: Of an earlier training; None begins with one that adds nothing. Unused without
            ``config.feedback``.
        not_here: Of an earlier training, or None; unused without ``config.hidden``.

    Raises:
        ConfigError: If the UNet has none of the weights to train.
    """

    def __init__(
        self,
        pipeline: StableVideoDiffusionPipeline,
        refiner: Refiner,
        config: ObjectiveConfig,
        segment_frames: int,
        feedback: Feedback | None = None,
        not_here: NotHere | None = None,
    ) -> None:
        super().__init__()
        self.unet = pipeline.unet
        _choose_trained(self.unet, config.trained)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()
        self.refiner = refiner.requires_grad_(config.refines)
        if config.feedback:
            self.feedback = feedback or Feedback(refiner.config.channels, config.block)
            self.feedback.requires_grad_(True)
        if config.names_hidden:
            self.not_here = (not_here or NotHere()).requires_grad_(True)
        self.config, self.segment_frames = config, segment_frames
        image_encoder = pipeline.image_encoder.requires_grad_(config.train_image_encoder)
        if config.train_image_encoder:
            self.image_encoder = image_encoder
        self._frozen = FrozenModels(pipeline.vae.requires_grad_(False).eval(), image_encoder)
        processor = pipeline.feature_extractor
        self._mean, self._std = tuple(processor.image_mean), tuple(processor.image_std)

    def forward(self, batch: ClipBatch) -> dict[str, Tensor]:
        """Compute the losses of a batch: "loss", and its parts unweighted: "denoising", "correspondence", and
        "hidden", that of hidden points, if ``config.hidden`` trains them.

        Args:
            batch: F frames in each clip, a multiple of ``segment_frames``. Each stretch of that length
                goes through the UNet alone; points are matched within and across stretches.
        """
        clips, count = batch.frames.shape[:2]
        frames = (batch.frames.float() / 127.5 - 1).view(-1, self.segment_frames, *batch.frames.shape[2:])
        latents = self.encode(frames)
        sigma = self._sample_sigma(clips).repeat_interleave(count // self.segment_frames)
        noisy = latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn_like(latents)
        keep = (torch.rand(len(frames), device=frames.device) >= self.config.drop_image).float()
        output, features = self.run_unet(frames, noisy, sigma, keep)
        denoising = denoising_loss(denoised(noisy, output.float(), sigma), latents, sigma).mean()
        if not self.config.correspondence:
            return {"loss": denoising, "denoising": denoising}
        parts = self._correspondence(batch, features, sigma)
        loss = denoising + self.config.correspondence * parts["correspondence"]
        if self.config.names_hidden:
            loss = loss + self.config.correspondence * self.config.hidden * parts["hidden"]
        return {"loss": loss, "denoising": denoising, **parts}

    def _correspondence(self, batch: ClipBatch, features: Tensor, sigma: Tensor) -> dict[str, Tensor]:
        """Compute the mean correspondence loss of random pairs, from features at noise ``sigma``.

        Returns:
            "correspondence", of pairs that both frames show, and with ``config.hidden`` also "hidden".
        """
        size: Size = (batch.frames.shape[-2], batch.frames.shape[-1])
        config, per_frame = self.config, self.config.pairs_per_frame
        hidden = int(config.hidden_share * per_frame) if config.names_hidden else 0
        pairs = sample_pairs(batch, per_frame, hidden)
        if config.loss == "huber":
            per_pair = position_loss(features, pairs, size, config.temperature, config.radius_px)
        else:
            not_here = self.not_here.similarity if config.names_hidden else None
            per_pair = correspondence_loss(features, pairs, size, config.temperature, not_here)
        # noise hides the points, so a pair is weighted by the share of signal in its frames
        signal = (1 / (1 + sigma.square())).repeat_interleave(self.segment_frames)
        weighted = per_pair * signal[pairs.source] * signal.repeat_interleave(per_frame)
        if not config.names_hidden:
            return {"correspondence": weighted.sum() / pairs.known.sum().clamp_min(1)}
        return {
            name: (weighted * chosen).sum() / (pairs.known & chosen).sum().clamp_min(1)
            for name, chosen in (("correspondence", ~pairs.hidden), ("hidden", pairs.hidden))
        }

    def run_unet(self, frames: Tensor, noisy: Tensor, sigma: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
        """Run the UNet once, for its output and the features of the configured block.

        Args:
            frames: (B, N, 3, H, W) in -1..1; only the first of each segment matters.
            noisy: (B, N, c, h, w) noisy latents.
            sigma: (B,) noise levels.
            keep: (B,) 1 if the segment is conditioned on its first frame, else 0.

        Returns:
            (B, N, c, h, w) output, and (B * N, C, h', w') features, refined if a refiner is trained.
        """
        first = frames[:, 0]
        # The first frame conditions every frame by its latents, and the attention by its embedding.
        noisy_first = first + self.config.noise_aug_strength * torch.randn_like(first)
        image_latents = self._frozen.encode(noisy_first) * keep.view(-1, 1, 1, 1)
        image_latents = image_latents[:, None].expand(-1, noisy.shape[1], -1, -1, -1)
        embedding = self._embed(first) * keep.view(-1, 1)
        inputs = torch.cat([network_input(noisy, sigma), image_latents], 2)
        added = torch.tensor(
            [self.config.fps - 1, self.config.motion_bucket_id, self.config.noise_aug_strength],
            device=frames.device,
        ).expand(len(frames), -1)
        # A hook reads the features, and refines them; another feeds them back.
        features: list[Tensor] = []

        def read(block: nn.Module, inputs: Any, raw: Tensor) -> None:
            features.append(self.refiner(raw) if self.config.refines else raw)

        hooks = [self.unet.up_blocks[self.config.block].register_forward_hook(read)]
        if self.config.feedback:
            hooks.append(add_after(self.unet, self.config.block, lambda raw: self.feedback(features[0])))
        try:
            output: Tensor = self.unet(inputs, network_time(sigma), embedding[:, None], added).sample
        finally:
            for hook in hooks:
                hook.remove()
        return output, features[0]

    @torch.no_grad()
    def features(self, frames: Tensor, generator: torch.Generator) -> FeatureGrid:
        """Extract the features of a whole clip with the weights in training, nearly as the extractor does.

        There is one difference: CLIP's own processor resizes the first frame in another way.

        Args:
            frames: (T, 3, H, W) uint8.
            generator: Random numbers for the noise, on the CPU.

        Returns:
            Refined features, or raw ones if no refiner is trained.
        """
        device = next(self.unet.parameters()).device
        parts = []
        for segment in segment_plan(len(frames), self.segment_frames):
            pixels = (frames[list(segment.frames)].to(device).float() / 127.5 - 1)[None]
            latents = self.encode(pixels)
            noise = torch.randn(latents.shape, generator=generator).to(device)
            sigma = torch.full((1,), self.config.low_noise_sigma, device=device)
            noisy = latents + self.config.low_noise_sigma * noise
            _, features = self.run_unet(pixels, noisy, sigma, torch.ones(1, device=device))
            parts.append(features[segment.keep].float().cpu())
        values = torch.cat(parts)
        size: Size = (frames.shape[-2], frames.shape[-1])
        stride_px = size[0] / values.shape[-2]
        return FeatureGrid(values, stride_px, centred_offset(stride_px), size)

    def _sample_sigma(self, clips: int) -> Tensor:
        """Sample noise levels (B,) as in the diffusion loss, or the extractor's for a share of the clips."""
        device = next(self.unet.parameters()).device
        sigma = sample_sigma(clips, self.config.sigma_mean, self.config.sigma_spread).to(device)
        low = torch.rand(clips, device=device) < self.config.low_noise_share
        return torch.where(low, torch.full_like(sigma, self.config.low_noise_sigma), sigma)

    def encode(self, frames: Tensor) -> Tensor:
        """Encode frames (B, N, 3, H, W) to scaled latents (B, N, c, h, w)."""
        latents = self._frozen.encode(frames.flatten(0, 1)) * self._frozen.vae.config.scaling_factor
        return latents.view(*frames.shape[:2], *latents.shape[1:])

    def _embed(self, first: Tensor) -> Tensor:
        """Compute CLIP's embedding (B, E) of frames (B, 3, H, W) in -1..1."""
        trained = self.config.train_image_encoder
        encoder: Any = self.image_encoder if trained else self._frozen.image_encoder.to(first.device)
        side = encoder.config.image_size
        small = interpolate(first, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
        mean, std = (small.new_tensor(values).view(3, 1, 1) for values in (self._mean, self._std))
        embedded: Tensor = encoder(((small + 1) / 2 - mean) / std).image_embeds
        return embedded


def _choose_trained(unet: nn.Module, trained: str) -> None:
    """Let gradients reach the weights of a UNet that are trained, and no others."""
    unet.requires_grad_(trained == "all")
    if trained == "all":
        return
    temporal = [weight for name, weight in unet.named_parameters() if "temporal_transformer_blocks" in name]
    if not temporal:
        raise ConfigError(
            "objective.trained=temporal: this UNet has no temporal_transformer_blocks; set it to all"
        )
    for weight in temporal:
        weight.requires_grad_(True)
