"""CLIPSIM: how alike neighbouring frames are to CLIP's image encoder.

Source: CLIP, arXiv:2103.00020; as a measure of generated video, Track4Gen, arXiv:2412.06016, Table 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import WeightsError
from t4g_tracker.features.layouts import CLIP
from t4g_tracker.features.model_files import cached_folder, load_settings, load_strictly, read_configs

TEXT_HALF = ("text_model.", "text_projection.", "logit_scale")  # of published files, which hold both halves
BATCH = 8  # frames at once


def find_clip(model: str) -> Path:
    """Find the weights of a CLIP on disk; never uses the network.

    Args:
        model: Path of a folder, or a model hub name.

    Raises:
        WeightsError: If they are missing or are those of another model; the message has no remedy for the
            first, which depends on the command.
    """
    folder = Path(model).expanduser()
    if not folder.is_dir():
        cached = cached_folder(model, CLIP) if model.count("/") == 1 and not folder.is_absolute() else None
        if cached is None:
            raise WeightsError(f"{model} is not on disk")
        folder = cached
    kind = read_configs(folder, CLIP)["config.json"].get("model_type")
    if kind not in ("clip", "clip_vision_model"):
        raise WeightsError(f"{CLIP.setting}: {folder} is a {kind}, not a clip; give {CLIP.kind}")
    return folder


class ClipEncoder:
    """CLIP's image half, loaded once, for any videos.

    Args:
        folder: From ``find_clip``.
        device: Where it runs.

    Raises:
        WeightsError: If the weights cannot be read or do not fit.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self.processor = load_settings(CLIPImageProcessor, folder, ".", CLIP.setting)
        model = load_strictly(
            CLIPVisionModelWithProjection, folder, ".", CLIP.setting, unused=TEXT_HALF, dtype=torch.float32
        )
        self.model, self.device = model.to(device), device

    def embeddings(self, video: Video, advance: Callable[[int], None]) -> Tensor:
        """Embed every frame in the space that CLIP shares between images and text.

        Frames are prepared as the folder says: published CLIPs scale the shorter side and cut the middle
        square, so what is left and right of it in a wide frame does not count.

        Args:
            video: T frames.
            advance: Called with how many frames are done.

        Returns:
            (T, D) float64 of unit length, on the CPU.
        """
        parts = []
        with torch.inference_mode():
            for start in range(0, video.frame_count, BATCH):
                frames = list(video.frames[start : start + BATCH])
                pixels = self.processor(images=frames, return_tensors="pt")["pixel_values"]
                parts.append(self.model(pixel_values=pixels.to(self.device)).image_embeds.cpu().double())
                advance(start + len(frames))
        return torch.nn.functional.normalize(torch.cat(parts), dim=-1)


def neighbour_cosines(embeddings: Tensor) -> Tensor:
    """Cosines (T - 1,) of neighbouring frames, of unit vectors (T, D); CLIPSIM is their mean."""
    return (embeddings[:-1] * embeddings[1:]).sum(-1)


def first_cosines(embeddings: Tensor) -> Tensor:
    """Cosines (T - 1,) of every later frame with the first, of unit vectors (T, D): drift of appearance."""
    return embeddings[1:] @ embeddings[0]
