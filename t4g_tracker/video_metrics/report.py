"""Tables of measured videos: a row each, and generated ones by model, paired by image and seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t4g_tracker.errors import VideoError, warn
from t4g_tracker.storage.files import file_digest, write_json, write_text
from t4g_tracker.tables import Table, rounded
from t4g_tracker.video_metrics.measuring import Measures, VideoScores

PLACES = {"CLIPSIM": 4, "CLIP to first": 4, "LPIPS": 4, "static": 1, "warp error": 1}
OTHER_PLACES = 2
FILES_ONLY = ("zoom", "turn")  # not in the tables that are shown
PERCENT = ("motion", "camera", "own motion", "warp error", "zoom")
UNITS = {**dict.fromkeys(PERCENT, "%"), "static": "% of pixels", "turn": "deg"}
NOTES = {
    "both": "CLIPSIM (higher is smoother) and LPIPS (lower is smoother) both reward standing still: a video "
    "that repeats its first frame has 1 and 0, the best there is. Read them beside the motion.",
    "clipsim": "CLIPSIM is the mean cosine of neighbouring frames' CLIP embeddings, CLIP to first that of "
    "the first frame with each later one. Both depend on the CLIP that the header names.",
    "lpips": "LPIPS is the mean distance of neighbouring frames, at the size of the video.",
    "motion": "Motion, camera and own motion are mean lengths from one frame to the next, in percent of the "
    "frame's diagonal: of the flow, of the affine motion that most of it follows, and of the flow without "
    "that. Static is the share of pixels that do not move. Warp error is how much colours differ from the "
    "next frame warped back along the flow, in percent of their range: change that is no motion.",
}
PAIRED = (
    "Means over the images and seeds of which every model has a video, ± the standard error. Videos of one "
    "image are alike, so with several images the error is that of a sample of images, not of videos."
)
FEW = 5  # images, below which their standard error is itself hardly known


@dataclass(frozen=True)
class Mean:
    """A mean, and its standard error: NaN of a single value."""

    mean: float
    error: float


def mean_of(values: Sequence[float], clusters: Sequence[str]) -> Mean:
    """Average values that are independent between clusters, but perhaps not within one.

    With a single cluster, the values themselves are taken for independent.

    Args:
        values: At least one.
        clusters: The cluster of each.

    Returns:
        The mean of the values, each of the same weight, with the cluster-robust standard error. With one
        value in each cluster it is the usual one, the standard deviation over the root of the number.

    Source: Liang and Zeger, Longitudinal data analysis using generalized linear models, 1986, for a mean.
    """
    array = np.asarray(values, dtype=np.float64)
    names = list(dict.fromkeys(clusters))
    groups = np.asarray([names.index(name) for name in clusters])
    if len(names) == 1:
        groups = np.arange(len(array))
    mean, count = float(array.mean()), int(groups.max()) + 1
    if count == 1:
        return Mean(mean, math.nan)
    sums = np.bincount(groups, array - mean)
    return Mean(mean, float(np.sqrt(count / (count - 1) * (sums**2).sum()) / len(array)))


@dataclass(frozen=True)
class ModelMeans:
    """The means of several models over the same images and seeds."""

    videos: int  # of each model
    images: int  # that these are of
    means: dict[str, dict[str, Mean]]  # by model and figure
    baseline: str
    differences: dict[str, dict[str, Mean]]  # each other model's mean less the baseline's, pair by pair

    @property
    def caution(self) -> str:
        """Why not to rely on the standard errors; empty if there are enough images.

        Source: Cameron, Gelbach and Miller, Bootstrap-based improvements for inference with clustered errors,
        2008: with few clusters, cluster-robust standard errors come out too small.
        """
        if self.images >= FEW:
            return ""
        if self.images == 1:
            return (
                "The videos are of one image: the standard error is over its seeds and says nothing of other "
                "images; generate videos of more"
            )
        return (
            f"The videos are of {self.images} images: a standard error of so few is mostly too small; "
            f"generate videos of {FEW} or more"
        )


def compare_models(scores: Sequence[VideoScores], names: Sequence[str], baseline: str) -> ModelMeans:
    """Average generated videos by model, over the images and seeds that all models have.

    Args:
        scores: Of generated videos.
        names: The figures.
        baseline: The model that the others are compared with.

    Raises:
        VideoError: If there is no image and seed of which every model has a video, or none of ``baseline``.
    """
    by_model: dict[str, dict[tuple[str, int], VideoScores]] = {}
    for score in scores:
        by_model.setdefault(score.video.model, {})[score.video.origin] = score
    if baseline not in by_model:
        raise VideoError(f"no video of {baseline} could be measured; compare with another --baseline")
    shared = sorted(set.intersection(*(set(videos) for videos in by_model.values())))
    if not shared:
        raise VideoError("no image and seed has a video of every model; run t4g generate to its end")
    left_out = sum(len(videos) - len(shared) for videos in by_model.values())
    if left_out:
        warn(
            f"{left_out} of {len(scores)} videos are left out of the means: not every model has a video of "
            "their image and seed; run t4g generate to its end"
        )
    images = [image for image, _ in shared]
    values = {
        model: {name: np.array([videos[origin].figures[name] for origin in shared]) for name in names}
        for model, videos in by_model.items()
    }
    return ModelMeans(
        videos=len(shared),
        images=len(set(images)),
        means={
            model: {name: mean_of(own[name].tolist(), images) for name in names}
            for model, own in values.items()
        },
        baseline=baseline,
        differences={
            model: {name: mean_of((own[name] - values[baseline][name]).tolist(), images) for name in names}
            for model, own in values.items()
            if model != baseline
        },
    )


def videos_table(scores: Sequence[VideoScores], measures: Measures) -> Table:
    """Make a table with a row for each video, and their mean if there are several."""
    names = _shown(measures)
    rows = [
        [str(score.video.path), str(score.frames), *(_cell(score.figures[name], name) for name in names)]
        for score in scores
    ]
    if len(scores) > 1:
        means = [mean_of([score.figures[name] for score in scores], ["all"] * len(scores)) for name in names]
        rows.append([f"mean of {len(scores)}", "", *map(_with_error, means, names)])
    return Table(["video", "frames", *_header(measures, names)], rows)


def models_tables(models: ModelMeans, measures: Measures) -> dict[str, Table]:
    """Make the table of models and that of their differences from the baseline, by title."""
    names = _shown(measures)
    header, counts = _header(measures, names), [str(models.videos), str(models.images)]
    rows = [
        [model, *counts, *(_with_error(means[name], name) for name in names)]
        for model, means in models.means.items()
    ]
    tables = {"Means of each model": Table(["model", "videos", "images", *header], rows)}
    if models.differences:
        rows = [
            [model, *counts, *(_with_error(means[name], name, "+") for name in names)]
            for model, means in models.differences.items()
        ]
        title = f"Differences from {models.baseline}, paired by image and seed"
        tables[title] = Table(["model", "pairs", "images", *header], rows)
    return tables


def write_report(
    folder: Path,
    scores: Sequence[VideoScores],
    measures: Measures,
    models: ModelMeans | None,
    facts: Mapping[str, Any],
) -> dict[str, Table]:
    """Write video-metrics.md, .csv and .json, for generated videos also models.csv; return the tables shown.

    Raises:
        OutputError: If a file cannot be written.
    """
    tables = models_tables(models, measures) if models else {"": videos_table(scores, measures)}
    paragraphs = [
        f"{title}\n\n{table.markdown()}" if title else table.markdown() for title, table in tables.items()
    ]
    notes = notes_of(measures)
    if models:
        notes = [PAIRED, *([f"{models.caution}."] if models.caution else []), *notes]
    write_text(folder / "video-metrics.md", "\n".join([*paragraphs, *(f"{note}\n" for note in notes)]))
    write_text(folder / "video-metrics.csv", _csv_of_videos(scores, measures).csv())
    if models:
        write_text(folder / "models.csv", _csv_of_models(models, measures).csv())
    record = {
        **facts,
        "measures": measures,
        "notes": notes,
        "models": models,
        "videos": [
            {**vars(score.video), "frames": score.frames, "size": score.size, "figures": score.figures}
            | {"pairs": score.pairs, "digest": file_digest(score.video.path)}
            for score in scores
        ],
    }
    write_json(folder / "video-metrics.json", record)
    return tables


def notes_of(measures: Measures) -> list[str]:
    """What a reader of the figures must know."""
    chosen = measures.chosen
    rewarding = [NOTES["both"]] if {"clipsim", "lpips"} & set(chosen) else []
    return [*rewarding, *(NOTES[name] for name in ("clipsim", "lpips", "motion") if name in chosen)]


def _csv_of_videos(scores: Sequence[VideoScores], measures: Measures) -> Table:
    rows = [
        [
            str(score.video.path),
            score.video.model,
            score.video.image,
            str(score.video.seed) if score.video.model else "",
            *map(str, (score.frames, *score.size)),
            *(rounded(score.figures[name], 6, "") for name in measures.names),
        ]
        for score in scores
    ]
    facts = ["video", "model", "image", "seed", "frames", "height", "width"]
    return Table([*facts, *_header(measures, measures.names)], rows)


def _csv_of_models(models: ModelMeans, measures: Measures) -> Table:
    """Means and standard errors in columns of their own, differences in rows of their own."""
    kinds = {"mean": models.means, f"difference from {models.baseline}": models.differences}
    rows = [
        [model, kind, str(models.videos), str(models.images)]
        + [rounded(value, 6, "") for name in measures.names for value in vars(means[name]).values()]
        for kind, of_models in kinds.items()
        for model, means in of_models.items()
    ]
    header = [
        title
        for column in _header(measures, measures.names)
        for title in (column, f"{column}, standard error")
    ]
    return Table(["model", "kind", "videos", "images", *header], rows)


def _shown(measures: Measures) -> list[str]:
    """The figures in tables that are shown."""
    return [name for name in measures.names if name not in FILES_ONLY]


def _header(measures: Measures, names: Sequence[str]) -> list[str]:
    """Titles of figures, with the models and units that they depend on."""
    clip = Path(measures.clip).name or measures.clip
    known = {name: f"{name} [{unit}]" for name, unit in UNITS.items()}
    known |= {"CLIPSIM": f"CLIPSIM ({clip})", "LPIPS": f"LPIPS ({measures.lpips})"}
    return [known.get(name, name) for name in names]


def _cell(value: float, name: str, sign: str = "") -> str:
    return f"{value:{sign}.{PLACES.get(name, OTHER_PLACES)}f}"


def _with_error(mean: Mean, name: str, sign: str = "") -> str:
    cell = _cell(mean.mean, name, sign)
    return cell if math.isnan(mean.error) else f"{cell} ± {_cell(mean.error, name)}"
