"""Arguments of ``t4g generate``, and the settings that they make."""

from __future__ import annotations

import argparse
import re
from typing import get_args

from t4g_tracker.bundled import GENERATING_MINI
from t4g_tracker.commands.arguments import add_device, add_mask_object, add_out, path_text, seed_number
from t4g_tracker.commands.parser import Parser, number, whole
from t4g_tracker.errors import ConfigError, shortened
from t4g_tracker.generation.settings import MOST_SEEDS, Decoder, GenerationConfig, ModelChoice

OUT = "outputs/generated"
GRID = 16
FOLDER_NAME = re.compile(r"[\w][\w.+-]{0,60}")


def parse_generate(argv: list[str] | None) -> argparse.Namespace:
    """Parse the arguments of ``t4g generate``; exits with code 2 on wrong usage."""
    default, limits = GenerationConfig(), GenerationConfig.LIMITS
    parser = Parser(
        prog="t4g generate",
        description="Generate videos from pictures with Stable Video Diffusion, Track4Gen or a bundled "
        "model, all from the same noise, and play them side by side. The same command goes on where an "
        "interrupted one stopped.",
    )
    parser.add_argument(
        "--image",
        dest="images",
        type=path_text,
        nargs="+",
        action="extend",
        required=True,
        help="pictures to start from: images, folders of images, or videos, whose first frame is taken",
    )
    parser.add_argument(
        "--models",
        type=_choice,
        nargs="+",
        default=[ModelChoice(GENERATING_MINI.name, GENERATING_MINI.name)],
        metavar="NAME=MODEL",
        help="a name for the results, and a folder, a hub name or a bundled model; svd alone is the "
        f"published one (default {GENERATING_MINI.name})",
    )
    parser.add_argument(
        "--seeds", type=seed_number, nargs="+", default=[0], help="one video for each (default 0)"
    )
    add_out(parser, OUT)
    parser.set_defaults(out=path_text(OUT))
    parser.add_argument(
        "--frames",
        type=whole(0, int(limits["frames"][1])),
        default=default.frames,
        help="of each video; 0 (default): as many as its model was trained on, which is the most",
    )
    parser.add_argument(
        "--size",
        type=whole(*map(int, limits["height"])),
        nargs=2,
        default=(default.height, default.width),
        metavar=("HEIGHT", "WIDTH"),
        help="of the frames, multiples of 64 (default 320 576); pictures are cut to its aspect",
    )
    parser.add_argument(
        "--steps", type=whole(*map(int, limits["steps"])), default=default.steps, help="(default %(default)s)"
    )
    parser.add_argument(
        "--guidance",
        type=number(*limits["max_guidance"]),
        nargs=2,
        default=(default.min_guidance, default.max_guidance),
        metavar=("FIRST", "LAST"),
        help="how strongly the picture guides the first frame and the last (default 1 3); 1 1: none, and "
        "the UNet runs once a step instead of twice",
    )
    parser.add_argument(
        "--fps",
        type=whole(*map(int, limits["fps"])),
        default=default.fps,
        help="frame rate, which the model is told too (default %(default)s)",
    )
    parser.add_argument(
        "--motion-bucket",
        type=whole(*map(int, limits["motion_bucket_id"])),
        default=default.motion_bucket_id,
        metavar="N",
        help="amount of motion that the model is told (default %(default)s)",
    )
    parser.add_argument(
        "--noise-aug",
        type=number(*limits["noise_aug_strength"]),
        default=default.noise_aug_strength,
        metavar="STRENGTH",
        help="noise on the picture (default %(default)s)",
    )
    parser.add_argument(
        "--decode-chunk",
        type=whole(*map(int, limits["decode_chunk"])),
        default=default.decode_chunk,
        metavar="N",
        help="frames decoded at once; fewer take less memory (default 0: all)",
    )
    parser.add_argument(
        "--decoder",
        choices=get_args(Decoder),
        default="auto",
        help="own: the model's; linear: latents read by linear regression on the picture, for a model whose "
        "decoder is trained little or not; auto (default): linear for the bundled models",
    )
    parser.add_argument("--float32", action="store_true", help="compute in float32, not in half precision")
    parser.add_argument("--save-frames", action="store_true", help="write the frames as png too")
    parser.add_argument(
        "--embed-tracks",
        action="store_true",
        help="track a grid of points by the features of the last denoising step",
    )
    parser.add_argument(
        "--grid",
        type=whole(1, 1000),
        metavar="N",
        help=f"points in a row of the grid in the first frame (default {GRID})",
    )
    parser.add_argument("--mask", type=path_text, help="image of the size of the picture; points lie inside")
    add_mask_object(parser)
    add_device(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    request = parser.parse(argv)
    _check(parser, request)
    return request


def _choice(text: str) -> ModelChoice:
    name, equals, model = text.partition("=")
    if not equals:
        name, model = text.rstrip("/").rpartition("/")[2], text
    if not FOLDER_NAME.fullmatch(name) or not model:
        raise argparse.ArgumentTypeError(
            f"must be NAME=MODEL, the name of letters, digits and .+-_, got {shortened(text)}"
        )
    return ModelChoice(name, model)


def _check(parser: Parser, request: argparse.Namespace) -> None:
    """Exit with code 2 for arguments that do not go together."""
    names = [choice.name.lower() for choice in request.models]
    for name in names:
        if names.count(name) > 1:
            parser.error(f"--models: {name} is named twice; give each model a name of its own")
    if len(set(request.seeds)) < len(request.seeds):
        parser.error("--seeds: one is given twice; give each once")
    if len(request.seeds) > MOST_SEEDS:
        parser.error(f"--seeds: {len(request.seeds)} are given; give at most {MOST_SEEDS}")
    for option in ("grid", "mask"):
        if getattr(request, option) is not None and not request.embed_tracks:
            parser.error(f"--{option} needs --embed-tracks, which tracks points")
    if request.mask_object is not None and request.mask is None:
        parser.error("--mask-object goes with a mask; give --mask")
    try:
        config_of(request)
    except ConfigError as error:
        parser.error(f"{error}; --help lists the options")


def config_of(request: argparse.Namespace) -> GenerationConfig:
    """The settings that the arguments make.

    Raises:
        ConfigError: If they do not go together.
    """
    return GenerationConfig(
        height=request.size[0],
        width=request.size[1],
        frames=request.frames,
        steps=request.steps,
        min_guidance=request.guidance[0],
        max_guidance=request.guidance[1],
        fps=request.fps,
        motion_bucket_id=request.motion_bucket,
        noise_aug_strength=request.noise_aug,
        decode_chunk=request.decode_chunk,
    )
