"""``t4g generate``: videos from pictures, by several models side by side from the same noise."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from t4g_tracker.commands.generate_arguments import GRID, config_of, parse_generate
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.commands.printing import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from t4g_tracker.generation.outputs import Record
    from t4g_tracker.generation.plan import Generation, Wanted


def main(argv: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    request = parse_generate(argv)
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


def _checked(request: argparse.Namespace) -> Generation:
    """Read and check whatever the run needs; raises a TrackerError if something cannot be used."""
    from t4g_tracker.errors import QueryError
    from t4g_tracker.features.networks import dtype_for
    from t4g_tracker.generation.models import find_models
    from t4g_tracker.generation.pictures import GridRequest, find_pictures, grid_of
    from t4g_tracker.generation.plan import Generation, Grid
    from t4g_tracker.hardware import pick_device

    device, config = pick_device(request.device), config_of(request)
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
