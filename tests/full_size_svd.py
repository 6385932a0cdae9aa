"""Measure feature extraction with a full-size Stable Video Diffusion of random weights.

Random weights cost the same time and memory as the published ones, so this tells what a machine
needs before anything is downloaded: on two cores (AMD EPYC, bfloat16) 122 s and 6.1 GiB for 14
frames of 320x576. Run by hand, with the project installed:

    python tests/full_size_svd.py build /tmp/svd_full     # 4.3 GB on disk, a minute
    python tests/full_size_svd.py measure /tmp/svd_full   # seconds and peak memory
    python tests/full_size_svd.py measure /tmp/svd_full --device cuda --frames 28
"""

from __future__ import annotations

import argparse
import logging
import resource
import time
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKLTemporalDecoder,
    StableVideoDiffusionPipeline,
    UNetSpatioTemporalConditionModel,
)
from tiny_models import svd_scheduler
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

from t4g_tracker.features.diffusion import DiffusionConfig, extract
from t4g_tracker.features.refiner import Refiner

log = logging.getLogger("full_size_svd")


def build(folder: Path) -> None:
    """Save the published architecture, in bfloat16 and with random weights, to ``folder``."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    pipeline = StableVideoDiffusionPipeline(
        vae=AutoencoderKLTemporalDecoder(
            down_block_types=("DownEncoderBlock2D",) * 4,
            block_out_channels=(128, 256, 512, 512),
            layers_per_block=2,
        ),
        image_encoder=CLIPVisionModelWithProjection(
            CLIPVisionConfig(  # ViT-H/14
                hidden_size=1280,
                intermediate_size=5120,
                projection_dim=1024,
                num_hidden_layers=32,
                num_attention_heads=16,
                image_size=224,
                patch_size=14,
                hidden_act="gelu",
            )
        ),
        unet=UNetSpatioTemporalConditionModel(num_frames=14),  # its other defaults are SVD's
        scheduler=svd_scheduler(),
        feature_extractor=CLIPImageProcessor(),
    )
    pipeline.save_pretrained(folder)
    Refiner(channels=640).save_pretrained(folder / "refiner")


def measure(folder: Path, device: torch.device, frame_count: int, size: list[int], half: bool) -> None:
    """Extract the features of random frames and log what it took."""
    frames = torch.randint(0, 256, (frame_count, 3, *size), dtype=torch.uint8)
    config = DiffusionConfig(model=str(folder), half=half)
    began = time.monotonic()

    def report(done: int, total: int) -> None:
        log.info("%d of %d frames, %.1f s", done, total, time.monotonic() - began)

    grid = extract(frames, config, kind="track4gen", device=device, seed=0, progress=report)
    seconds = time.monotonic() - began
    log.info("%s features, stride %g px, offset %g px", grid.shape, grid.stride_px, grid.offset_px)
    log.info("%.1f s with loading", seconds)
    log.info("%.1f GiB peak memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
    if device.type == "cuda":
        log.info("%.1f GiB peak on the GPU", torch.cuda.max_memory_allocated(device) / 2**30)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=["build", "measure"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--size", type=int, nargs=2, default=(320, 576), metavar=("H", "W"))
    parser.add_argument("--float32", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.action == "build":
        build(options.folder)
    else:
        device = torch.device(options.device)
        measure(options.folder, device, options.frames, options.size, not options.float32)


if __name__ == "__main__":
    main()
