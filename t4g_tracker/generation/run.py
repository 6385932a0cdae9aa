"""A run of ``t4g generate``: every picture by every model from every seed, one model in memory at a time."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from diffusers import StableVideoDiffusionPipeline
from torch import Tensor

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import Interrupted, WeightsError, one_line, ran_out_of_memory
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.settings import DiffusionConfig
from t4g_tracker.generation.decoding import linear_decoder, own_decoder
from t4g_tracker.generation.embed import embedded_tracks, feature_grid
from t4g_tracker.generation.models import FEATURE_BLOCK, Model
from t4g_tracker.generation.noise import picture_noise, starting_noise
from t4g_tracker.generation.outputs import QUALITY, Record, side_by_side
from t4g_tracker.generation.pictures import Picture
from t4g_tracker.generation.pipeline import Generated, generate
from t4g_tracker.generation.plan import Generation, Wanted, all_videos, settings_of
from t4g_tracker.generation.settings import GenerationConfig
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.generated import (
    INPUT,
    frame_name,
    frames_name,
    side_by_side_name,
    tracks_names,
    video_name,
)
from t4g_tracker.outputs.run_files import OutputsConfig, write_npz, write_overlay
from t4g_tracker.stage_log import Bar, StageLog
from t4g_tracker.storage.files import prepare_output_folder, replace_folder
from t4g_tracker.visualize.encoding import write_picture, write_video

log = logging.getLogger(__name__)

NAMED = 4  # most reasons that are told for making a video anew


def run(what: Generation, record: Record, stages: StageLog, bar: Bar) -> list[Wanted]:
    """Generate all videos that are not there yet, then play those of each picture and seed side by side.

    Args:
        what: What to generate.
        record: Of the output folder, which is written after every video.
        stages: Measures seconds and peak memory.
        bar: Shows progress.

    Returns:
        All videos, made now or before.

    Raises:
        WeightsError: If a model cannot be loaded, or makes what is no picture.
        Interrupted: On Ctrl-C; it says how many videos are there.
    """
    wanted = all_videos(what)
    due = [video for video in wanted if not _is_there(video, what, record)]
    if len(due) < len(wanted):
        log.info("%d of %d videos are there already", len(wanted) - len(due), len(wanted))
    record.write(finished=False)
    with _interrupted_saying(due, len(wanted)) as count:
        for picture in what.pictures:
            place = prepare_output_folder(record.folder / picture.name, place="--out")
            write_picture(place / INPUT, _as_frames(picture.rgb[None])[0])
        for model in what.models:
            mine = [video for video in due if video.model is model]
            if mine:
                _make_all(mine, what, record, stages, bar, count)
                _free_memory(what.device)
        for picture in what.pictures:
            for seed in what.seeds:
                _play_side_by_side(picture, seed, what, record)
    return wanted


def mean_consistency(model: str, wanted: Sequence[Wanted], record: Record) -> float | None:
    """Average the consistency of a model's tracks over its videos; None if none was tracked."""
    found = [record.videos[video.name].get("consistency") for video in wanted if video.model.name == model]
    known = [value for value in found if value is not None]
    return round(sum(known) / len(known), 4) if known else None


@contextmanager
def _interrupted_saying(due: Sequence[Wanted], total: int) -> Iterator[Callable[[], None]]:
    """Add to Ctrl-C how many videos are there; yields what counts one more."""
    done = [total - len(due)]

    def count() -> None:
        done[0] += 1

    try:
        yield count
    except KeyboardInterrupt:
        raise Interrupted(f"stopped: {done[0]} of {total} videos are there", "makes the others") from None


def _make_all(
    videos: Sequence[Wanted],
    what: Generation,
    record: Record,
    stages: StageLog,
    bar: Bar,
    count: Callable[[], None],
) -> None:
    """Load a model and make its videos; nothing refers to it afterwards, so that its memory is free."""
    model = videos[0].model
    smaller = "leave --float32 out" if what.dtype == torch.float32 else "end other programs"
    with stages.stage(f"loading {model.name}"), _enough_memory(model, smaller):
        pipeline, refiner = model.load(what.dtype, what.device)
    for video in videos:
        with _enough_memory(model, "give --decode-chunk 2, fewer --frames or a smaller --size"):
            _make(video, pipeline, refiner, what, record, stages, bar)
        count()


@contextmanager
def _enough_memory(model: Model, remedy: str) -> Iterator[None]:
    """Turn a lack of memory, of a GPU too, into one line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and not ran_out_of_memory(error):
            raise
        raise WeightsError(
            f"{model.setting}: memory ran out ({one_line(error)}); {remedy}, or use a machine with more"
        ) from error


def _free_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more, also where objects refer to each other."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _is_there(video: Wanted, what: Generation, record: Record) -> bool:
    """Whether a video was made with the same settings before; tells why one is made anew."""
    entry = record.videos.get(video.name)
    if entry is None:
        return False
    reasons = record.faults(entry, settings_of(video, what), video.files(video.model.frames(what.config)))
    if reasons:
        more = [f"{len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
        log.info("%s is made anew: %s", video.name, ", ".join([*reasons[:NAMED], *more]))
    return not reasons


def _make(
    video: Wanted,
    pipeline: StableVideoDiffusionPipeline,
    refiner: Refiner | None,
    what: Generation,
    record: Record,
    stages: StageLog,
    bar: Bar,
) -> None:
    """Generate one video, write its files, then its entry in the record."""
    model, config = video.model, what.config
    frames = model.frames(config)
    prepare_output_folder((record.folder / video.name).parent, place="--out")
    _forget(video, frames, record)
    with stages.stage(video.name), bar(f"{model.name} {video.seed}", "step") as progress:
        made = generate(
            pipeline,
            video.picture.rgb,
            frames,
            config,
            picture_noise(video.seed),
            starting_noise(video.seed, model.noise_shape(config)),
            FEATURE_BLOCK if video.grid else None,
            progress,
        )
        pictures = _as_frames(_decode(made.latents, pipeline, video, config))
        _write_pictures(video, pictures, config, record)
        facts = {"last_sigma": made.last_sigma}
        if video.grid is not None:
            facts |= _track(video, made, pictures, refiner, config, record)
    record.videos[video.name] = {
        "picture": video.picture.name,
        "model": model.name,
        "seed": video.seed,
        "frames": frames,
        **facts,
        **stages.stages[video.name],
        "settings": settings_of(video, what),
        "files": record.digests(video.files(frames)),
    }
    record.write(finished=False)


def _forget(video: Wanted, frames: int, record: Record) -> None:
    """Remove files of an earlier video of this name that this one does not replace."""
    record.videos.pop(video.name, None)
    saved = (record.folder / frames_name(video.name)).glob("*.png")
    earlier = {record.folder / name for name in tracks_names(video.name)}
    if video.grid is None:
        film = side_by_side_name(video.picture.name, video.seed, tracks=True)
        record.films.pop(film, None)
        earlier.add(record.folder / film)
    for path in earlier.union(saved) - {record.folder / name for name in video.files(frames)}:
        path.unlink(missing_ok=True)


def _decode(
    latents: Tensor, pipeline: StableVideoDiffusionPipeline, video: Wanted, config: GenerationConfig
) -> Tensor:
    """Decode latents (N, c, h, w) to frames (N, 3, H, W) uint8.

    Raises:
        WeightsError: If the number format could not hold the latents.
    """
    if not latents.isfinite().all():
        raise WeightsError(
            f"{video.model.setting}: {video.model.folder} gives latents that are not finite; try --float32, "
            "or other weights"
        )
    with torch.no_grad():
        if video.model.linear:
            return linear_decoder(pipeline.vae, video.picture.rgb[None])(latents)
        return own_decoder(pipeline.vae, config.decode_chunk)(latents)


def _write_pictures(video: Wanted, pictures: np.ndarray, config: GenerationConfig, record: Record) -> None:
    """Write frames (T, H, W, 3) uint8 as the video, and each alone if wanted."""
    write_video(record.folder / video.name, pictures, config.fps, QUALITY)
    if video.save_frames:
        with replace_folder(record.folder / frames_name(video.name)) as whole:
            for index, picture in enumerate(pictures):
                write_picture(whole / frame_name(index), picture)


def _track(
    video: Wanted,
    made: Generated,
    pictures: np.ndarray,
    refiner: Refiner | None,
    config: GenerationConfig,
    record: Record,
) -> dict[str, Any]:
    """Track points by the features of a video's last step, write the tracks, return facts of them."""
    assert video.grid is not None
    assert made.features is not None
    queries = video.grid.queries
    clip = Video(pictures, float(config.fps), video.picture.name, video.name)
    found = embedded_tracks(feature_grid(made.features, refiner, config.size), clip, queries)
    write_npz(record.folder / video.tracks[0], clip, queries, found.tracks)
    write_overlay(record.folder / video.tracks[1], clip, queries, found.tracks, OutputsConfig())
    return {
        "extraction_sigma": DiffusionConfig().noise_sigma,
        "points": len(queries),
        "consistency": round(found.consistency, 4),
    }


def _as_frames(pictures: Tensor) -> np.ndarray:
    """Convert (N, 3, H, W) to (N, H, W, 3)."""
    return np.ascontiguousarray(pictures.permute(0, 2, 3, 1).numpy())


def _play_side_by_side(picture: Picture, seed: int, what: Generation, record: Record) -> None:
    """Write the films of all models side by side, unless they are there and of the same videos."""
    for tracks in (False, True) if what.grids else (False,):
        name = side_by_side_name(picture.name, seed, tracks)
        of = {model.name: video_name(picture.name, model.name, seed) for model in what.models}
        if tracks:
            of = {model: tracks_names(video)[1] for model, video in of.items()}
        settings = {
            "picture": picture.digest,
            "models": list(of),  # in their order, which names alone do not tell apart
            "videos": record.digests(list(of.values())),
        }
        entry = record.films.get(name)
        if entry is not None and not record.faults(entry, settings, [name]):
            continue
        videos = {model: read_video(record.folder / file).frames for model, file in of.items()}
        film = side_by_side(_as_frames(picture.rgb[None])[0], videos)
        write_video(record.folder / name, film, what.config.fps)
        record.films[name] = {
            "picture": picture.name,
            "seed": seed,
            "models": list(of),
            "settings": settings,
            "files": record.digests([name]),
        }
        record.write(finished=False)
