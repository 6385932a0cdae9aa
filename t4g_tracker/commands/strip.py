"""What a video diffusion model makes of a video, as a picture for its model card.

``python -m t4g_tracker.commands.strip MODEL --video x.mp4 --out strip.png`` draws rows of frames: the
video, the same through the autoencoder and back, denoised after noise of level 1, and a
video generated from the first frame alone. ``--read-linearly`` is for a model whose decoder is not
trained: it shows latents as pictures by linear regression on the video's own frames.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from PIL import Image
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.errors import VideoError
from t4g_tracker.features.diffusion_weights import check_folder, find_folder, load_pipeline
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.files import atomic_write, prepare_output_folder
from t4g_tracker.training.track4gen.denoising import denoised
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective
from t4g_tracker.training.track4gen.regression import neighbourhoods, ridge_regression, rows
from t4g_tracker.video import read_video, working_frames
from t4g_tracker.visualize.painting import INK, PAPER, write_text

NOISE = 1.0
STEPS = 25
LABEL_PX = 22
SIZE_STEP_PX = 64  # the autoencoder halves a frame three times, and the UNet three times more


Decode = Callable[[Tensor], Tensor]  # from scaled latents (N, c, h, w) to pictures (N, 3, H, W) uint8


class LinearReading:
    """Pictures from latents by linear regression: the pixels of a cell from it and its eight neighbours.

    It finds in the latents what a decoder would have to start from, without training one. Brightness and
    colour that hold for the whole frame are those of the frames it is fitted to.

    Args:
        latents: (N, c, h, w).
        frames: (N, 3, H, W) uint8 that they are of, H and W the same multiple of h and w.
    """

    def __init__(self, latents: Tensor, frames: Tensor) -> None:
        self.block = frames.shape[-1] // latents.shape[-1]
        pixels = rows(pixel_unshuffle(frames.float(), self.block).flatten(2))
        seen = neighbourhoods(latents)
        self.weights = ridge_regression(seen.mT @ seen, seen.mT @ pixels, 1e-3 * len(seen))

    def __call__(self, latents: Tensor) -> Tensor:
        count, _, height, width = latents.shape
        pixels = (neighbourhoods(latents) @ self.weights).view(count, height * width, -1).mT
        pictures = pixel_shuffle(pixels.reshape(count, -1, height, width), self.block)
        return pictures.round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def draw_strip(
    pipeline: StableVideoDiffusionPipeline, frames: Tensor, seed: int = 0, read_linearly: bool = False
) -> dict[str, Tensor]:
    """Rows of pictures (N, 3, H, W) uint8 by what they show.

    Args:
        pipeline: Of Stable Video Diffusion's layout, float32.
        frames: (N, 3, H, W) uint8, as many as the UNet sees at once.
        seed: Of the noise.
        read_linearly: Show latents by ``LinearReading`` and not by the model's decoder.
    """
    generator = torch.Generator().manual_seed(seed)
    vae, scale = pipeline.vae, pipeline.vae.config.scaling_factor
    pixels = (frames.float() / 127.5 - 1)[None]
    objective = Track4GenObjective(pipeline, Refiner(1), ObjectiveConfig(correspondence=0), len(frames))
    latents = objective.encode(pixels)
    noisy = latents + NOISE * torch.randn(latents.shape, generator=generator)
    sigma = torch.tensor([NOISE])
    with torch.random.fork_rng(devices=[]):  # the noise on the first frame is drawn from PyTorch's own
        torch.manual_seed(seed)
        answer, _ = objective.run_unet(pixels, noisy, sigma, torch.ones(1))
    clean = denoised(noisy, answer, sigma)

    def by_the_decoder(scaled: Tensor) -> Tensor:
        shown = vae.decode(scaled / scale, num_frames=len(frames)).sample
        return ((shown + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)

    decode: Decode = LinearReading(latents[0], frames) if read_linearly else by_the_decoder
    pipeline.set_progress_bar_config(disable=True)
    generated = pipeline(
        image=Image.fromarray(frames[0].permute(1, 2, 0).numpy()),
        height=frames.shape[-2],
        width=frames.shape[-1],
        num_frames=len(frames),
        num_inference_steps=STEPS,
        max_guidance_scale=1.0,
        generator=generator,
        output_type="latent",
    ).frames[0]
    return {
        "video": frames,
        "latents, read linearly" if read_linearly else "autoencoder": decode(latents[0]),
        "noise of level 1": decode(noisy[0]),
        "denoised": decode(clean[0]),
        "generated from the first frame": decode(generated),
    }


def labelled(rows: dict[str, Tensor]) -> np.ndarray:
    """Rows of pictures (N, 3, H, W) uint8 under each other, each below its name."""
    parts = []
    for name, row in rows.items():
        beside = np.concatenate(list(row.permute(0, 2, 3, 1).numpy()), axis=1)
        caption = np.full((LABEL_PX, beside.shape[1], 3), PAPER, np.uint8)
        write_text(caption, name, (4, LABEL_PX / 2), LABEL_PX - 6, INK)
        parts += [caption, beside]
    return np.concatenate(parts, axis=0)


def main(argv: list[str] | None = None) -> int:
    """Run the command: returns the exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m t4g_tracker.commands.strip", description=__doc__)
    parser.add_argument("model", help="folder of the model, or its hub name")
    parser.add_argument("--video", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="picture to write: .png or .jpg")
    parser.add_argument("--size", type=int, nargs=2, default=(256, 448), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--shown", type=int, default=4, help="frames of each row that are drawn")
    parser.add_argument("--read-linearly", action="store_true", help="for a model without a trained decoder")
    request = parser.parse_args(argv)
    if min(request.size) < SIZE_STEP_PX or any(side % SIZE_STEP_PX for side in request.size):
        parser.error(
            f"--size must be two multiples of {SIZE_STEP_PX}, got {request.size[0]} {request.size[1]}"
        )
    if request.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        parser.error(f"--out must be a .png or .jpg, got {request.out}")
    if request.shown < 1:
        parser.error(f"--shown must be at least 1, got {request.shown}")
    prepare_output_folder(request.out.parent)
    folder = find_folder(request.model, need_refiner=False)
    check_folder(folder, ObjectiveConfig().block, need_refiner=False)
    pipeline = load_pipeline(folder, torch.float32)
    count = int(pipeline.unet.config.num_frames)
    frames = working_frames(read_video(request.video), tuple(request.size))[:count]
    if len(frames) < count:
        raise VideoError(f"{request.video}: has {len(frames)} frames; the model takes {count} at once")
    rows = draw_strip(pipeline, frames, read_linearly=request.read_linearly)
    index = torch.linspace(0, count - 1, min(request.shown, count)).round().long()
    picture = labelled({name: row[index] for name, row in rows.items()})
    with atomic_write(request.out) as passing:
        Image.fromarray(picture).save(passing)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
