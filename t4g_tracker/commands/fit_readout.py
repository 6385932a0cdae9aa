"""``t4g fit-readout``: fit a trained UNet's last convolution to the denoising loss again."""

from __future__ import annotations

import argparse

from t4g_tracker.commands.arguments import path_text, seed_number
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, whole

CLIP_SHAPE = (24, (288, 512), 512)  # frames, size and points, as in the clips that trainings cache
CROP_SIZE = (192, 320)  # as in the training of the bundled model


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    _fit(request)
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = Parser(
        prog="t4g fit-readout",
        description="Fit the last convolution of a trained UNet to the denoising loss alone, by linear "
        "regression on synthetic clips. Features are taken before that convolution and do not change.",
    )
    parser.add_argument("model", help="folder of the model, written by t4g train-track4gen")
    parser.add_argument("--out", type=path_text, required=True, help="folder to write the model to")
    parser.add_argument(
        "--clips", type=whole(1, 100_000), default=300, help="synthetic clips (default %(default)s)"
    )
    parser.add_argument("--keep-clips", type=path_text, help="folder to cache generated clips in")
    parser.add_argument(
        "--seed", type=seed_number, default=0, help="the same seed gives the same model (default 0)"
    )
    return parser.parse(argv)


def _fit(request: argparse.Namespace) -> None:
    import torch
    from tqdm import tqdm

    from t4g_tracker.features.diffusion_folder import find_folder, has_feedback
    from t4g_tracker.storage.files import prepare_output_folder
    from t4g_tracker.training.track4gen.crops import Crop
    from t4g_tracker.training.track4gen.dataset import ClipCrops, SyntheticClips
    from t4g_tracker.training.track4gen.model_folder import save_model, starting_point
    from t4g_tracker.training.track4gen.objective import ObjectiveConfig
    from t4g_tracker.training.track4gen.readout import fit_last_convolution

    prepare_output_folder(request.out)
    folder = find_folder(request.model, need_refiner=False)
    config = ObjectiveConfig(
        refiner=(folder / "refiner").is_dir(),
        feedback=has_feedback(folder),
        hidden=float((folder / "not_here").is_dir()),
        train_image_encoder=True,
    )
    start = starting_point(request.model, config, request.seed, "model")
    segment_frames = int(start.pipeline.unet.config.num_frames)
    objective = start.objective(config, segment_frames).eval()
    clips = SyntheticClips(request.clips, *CLIP_SHAPE, request.seed, request.keep_clips)
    crop = Crop(1, segment_frames, CROP_SIZE, turn=0.3, zoom=1.35, tint=0.2)
    crops = ClipCrops(clips, crop, request.seed)
    torch.manual_seed(request.seed)
    numbers = tqdm(range(request.clips), unit="clip", dynamic_ncols=True)
    fit_last_convolution(objective, (crops[number, number].frames for number in numbers))
    save_model(request.out, objective, start.pipeline)
