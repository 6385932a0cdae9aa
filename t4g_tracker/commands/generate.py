"""``t4g generate``: videos from pictures, by several models side by side from the same noise."""

from __future__ import annotations

import argparse
import re
import sys
from typing import TYPE_CHECKING, Any, get_args

from t4g_tracker.bundled import TRACK4GEN_MINI
from t4g_tracker.commands.arguments import add_device, add_mask_object, add_out, path_text, seed_number
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.parser import Parser, number, whole
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import ConfigError, shortened
from t4g_tracker.generation.settings import MOST_SEEDS, Decoder, GenerationConfig, ModelChoice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from t4g_tracker.generation.outputs import Record
    from t4g_tracker.generation.plan import Generation, Wanted

OUT = "outputs/generated"
GRID = 16
FOLDER_NAME = re.compile(r"[\w][\w.+-]{0,60}")


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = _parse(argv)
    from t4g_tracker.errors import warnings_so_far
    from t4g_tracker.generation.outputs import Record
    from t4g_tracker.generation.run import mean_consistency, run
    from t4g_tracker.outputs.run_record import Call
    from t4g_tracker.stage_log import StageLog, no_bar, progress_bar
    from t4g_tracker.storage.files import locked_folder

    # Read, and check everything before any work.
    call = Call(["t4g", "generate", *(sys.argv[1:] if argv is None else argv)], vars(request))
    what = _checked(request)
    with locked_folder(request.out, place="--out") as folder:
        record = Record.read(folder)
        record.run = {**call.facts(), **_facts(what)}
        _tell(what)

        # Generate.
        stages = StageLog(peaks=True, device=what.device)
        wanted = run(what, record, stages, no_bar if request.quiet else progress_bar)

        # Tell what there is.
        for model in what.models:
            record.run["models"][model.name]["consistency"] = mean_consistency(model.name, wanted, record)
        record.run["warnings"] = warnings_so_far()
        record.write(finished=True)
        say("\n".join(_closing_lines(what, wanted, record)))
    return 0


def _parse(argv: list[str] | None) -> argparse.Namespace:
    default, limits = GenerationConfig(), GenerationConfig.LIMITS
    parser = Parser(
        prog="t4g generate",
        description="Generate videos from pictures with Stable Video Diffusion, Track4Gen or the bundled "
        "mini, all from the same noise, and play them side by side. The same command goes on where an "
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
        default=[ModelChoice(TRACK4GEN_MINI.name, TRACK4GEN_MINI.name)],
        metavar="NAME=MODEL",
        help="a name for the results, and a folder, a hub name or a bundled model; svd alone is the "
        f"published one (default {TRACK4GEN_MINI.name})",
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
        "decoder is not trained; auto (default): linear for bundled models of which that is true",
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
        _config(request)
    except ConfigError as error:
        parser.error(f"{error}; --help lists the options")


def _config(request: argparse.Namespace) -> GenerationConfig:
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


def _checked(request: argparse.Namespace) -> Generation:
    """Read and check whatever the run needs; raises a TrackerError if something cannot be used."""
    from t4g_tracker.errors import QueryError
    from t4g_tracker.features.networks import dtype_for
    from t4g_tracker.generation.models import find_models
    from t4g_tracker.generation.pictures import GridRequest, find_pictures, grid_of
    from t4g_tracker.generation.plan import Generation, Grid
    from t4g_tracker.hardware import pick_device

    device, config = pick_device(request.device), _config(request)
    pictures = find_pictures(request.images, config.size)
    if request.mask is not None and len(pictures) > 1:
        raise QueryError(
            f"{request.mask}: is the mask of one picture, but {len(pictures)} are given; give one of them"
        )
    grids = {}
    if request.embed_tracks:
        asked = GridRequest(request.grid or GRID, request.mask, request.mask_object)
        for picture in pictures:
            queries, mask = grid_of(asked, picture, config.size)
            grids[picture.name] = Grid(queries, asked.across, mask)
    return Generation(
        pictures=pictures,
        models=find_models(request.models, config, request.decoder),
        seeds=request.seeds,
        config=config,
        dtype=dtype_for(not request.float32, device),
        device=device,
        grids=grids,
        save_frames=request.save_frames,
    )


def _facts(what: Generation) -> dict[str, Any]:
    """What generation.json says of the run."""
    from t4g_tracker.generation.models import paired
    from t4g_tracker.outputs.run_record import machine_facts
    from t4g_tracker.storage.files import plain_values

    machine = machine_facts(what.seeds[0], what.device)
    del machine["seed"]
    return {
        **machine,
        "precision": str(what.dtype).removeprefix("torch."),
        "settings": plain_values(what.config),
        "seeds": list(what.seeds),
        "pictures": {
            picture.name: {
                "source": str(picture.path.absolute()),
                "digest": picture.digest,
                "cut_from": picture.cut_from,
            }
            for picture in what.pictures
        },
        "models": {
            model.name: {
                "folder": str(model.folder),
                "weights": model.weights,
                "refiner": model.refined,
                "feedback": model.fed_back,
                "decoder": "linear" if model.linear else "own",
                "frames": model.frames(what.config),
                "latents": model.noise_shape(what.config),
            }
            for model in what.models
        },
        "same_noise": paired(what.models, what.config),
    }


def _tell(what: Generation) -> None:
    """Say what a user may not expect: pictures are cut, latents are read linearly, models start unlike."""
    from t4g_tracker.generation.models import paired

    for picture in what.pictures:
        if picture.cut_from is not None:
            height, width = picture.cut_from
            say(
                f"{picture.path}: {width}x{height} is cut to its middle, in the aspect of "
                f"{what.config.width}x{what.config.height}"
            )
    for model in what.models:
        if model.linear:
            say(f"{model.name}: its latents are read by linear regression, not by its own decoder")
    groups = paired(what.models, what.config)
    if len(groups) > 1:
        alike = "; ".join(", ".join(group) for group in groups)
        say(f"only models with latents of one shape start from the same noise: {alike}")


def _closing_lines(what: Generation, wanted: Sequence[Wanted], record: Record) -> list[str]:
    """The lines that a run ends with: what there is, and how consistent the tracks are."""
    lines = [f"{len(wanted)} videos in {record.folder}, side by side in side-by-side-seed-*.mp4"]
    if what.grids:
        for model in what.models:
            share = record.run["models"][model.name]["consistency"]
            lines.append(f"{model.name}: {share:.1%} of matches lead back to within a cell")
        lines.append("(a video that stands still comes near 100 %: this does not say that a video is good)")
    return lines
