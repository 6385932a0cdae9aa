"""``t4g paint-strip``: paint what a video diffusion model makes of a video, for its model card."""

from __future__ import annotations

import argparse

from t4g_tracker.commands.arguments import path_text
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole

SIZE_STEP_PX = 64  # the autoencoder halves a frame three times, and the UNet three times more


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    _paint(request)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g paint-strip",
        description="Paint rows of frames: the video, the same encoded and decoded by the autoencoder, with "
        "noise of level 1, denoised, and a video generated from the first frame alone.",
    )
    parser.add_argument("model", help="folder of the model, or its hub name")
    parser.add_argument("--video", type=path_text, required=True, help="video file, or folder of frames")
    parser.add_argument("--out", type=path_text, required=True, help="picture to write: .png or .jpg")
    parser.add_argument(
        "--size",
        type=whole(SIZE_STEP_PX, 4096),
        nargs=2,
        default=(256, 448),
        metavar=("HEIGHT", "WIDTH"),
        help=f"of the frames, multiples of {SIZE_STEP_PX} (default 256 448)",
    )
    parser.add_argument(
        "--shown", type=whole(1, 1000), default=4, help="frames in each row (default %(default)s)"
    )
    parser.add_argument(
        "--read-linearly",
        action="store_true",
        help="show latents by linear regression on the video's own frames: for a model whose decoder is not "
        "trained",
    )
    request = parser.parse(argv)
    if any(side % SIZE_STEP_PX for side in request.size):
        parser.error(
            f"--size must be two multiples of {SIZE_STEP_PX}, got {request.size[0]} {request.size[1]}"
        )
    if request.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        parser.error(f"--out must be a .png or .jpg, got {request.out}")
    return request


def _paint(request: argparse.Namespace) -> None:
    import torch
    from PIL import Image

    from t4g_tracker.errors import VideoError
    from t4g_tracker.features.diffusion_folder import check_folder, find_folder
    from t4g_tracker.features.diffusion_weights import load_model
    from t4g_tracker.inputs.video import read_video, working_frames
    from t4g_tracker.storage.files import atomic_write, prepare_output_folder
    from t4g_tracker.training.track4gen.objective import ObjectiveConfig
    from t4g_tracker.training.track4gen.strip import labelled, paint_strip

    prepare_output_folder(request.out.parent)
    folder = find_folder(request.model, need_refiner=False)
    check_folder(folder, ObjectiveConfig().block, need_refiner=False)
    pipeline = load_model(folder, torch.float32)
    count = int(pipeline.unet.config.num_frames)
    frames = working_frames(read_video(request.video), tuple(request.size))[:count]
    if len(frames) < count:
        raise VideoError(
            f"{request.video}: has {len(frames)} frames, but the model takes {count}; give a longer video"
        )
    strip = paint_strip(pipeline, frames, read_linearly=request.read_linearly)
    index = torch.linspace(0, count - 1, min(request.shown, count)).round().long()
    picture = labelled({name: row[index] for name, row in strip.items()})
    with atomic_write(request.out) as temporary:
        Image.fromarray(picture).save(temporary)
