"""``t4g compare-features``: the same points with the frozen features of several extractors."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial

import numpy as np
import pytest
import torch
from tiny_models import save_tiny_svd

from t4g_tracker.__main__ import main
from t4g_tracker.bundled import TRACK4GEN_MINI
from t4g_tracker.cache import Cache
from t4g_tracker.commands.bench import bench_methods
from t4g_tracker.commands.comparison import Choice, choose_features
from t4g_tracker.config import read_settings
from t4g_tracker.datatypes import QueryPoints, Tracks, Video
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.settings import DiffusionConfig, FeaturesConfig
from t4g_tracker.files import read_tracks_npz
from t4g_tracker.metrics import score
from t4g_tracker.pipeline import Config, open_clip
from t4g_tracker.stage_log import progress_bar
from t4g_tracker.video import read_video
from t4g_tracker.visualize.colours import point_colours
from t4g_tracker.visualize.compare import LABEL_PX, Shown, compare_picture, compare_video, shown_frames
from t4g_tracker.visualize.drawing import PAPER

ASSETS = TRACK4GEN_MINI.parents[1]
SIZE = ["working_size.height=64", "working_size.width=128"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_svd(tmp_path_factory.mktemp("svd"))


@pytest.fixture(scope="module")
def compared(model, tmp_path_factory):
    """Patches and a random diffusion model, on the bundled clip, with its truth."""
    folder = tmp_path_factory.mktemp("compared")
    out = folder / "out"
    code = main(
        [
            "compare-features",
            *("--video", str(ASSETS / "koi.mp4"), "--queries", str(ASSETS / "koi.queries.json")),
            *("--gt", str(ASSETS / "koi.tracks.npz"), "--features", "patch", f"svd={model}"),
            *("--out", str(out), "--cache", str(folder / "cache"), "--device", "cpu", "--quiet"),
            *("--set", *SIZE, "tracking.polish=false"),
        ]
    )
    assert code == 0
    return out


def test_scores_in_the_table_are_those_of_the_written_tracks(compared):
    video = read_video(ASSETS / "koi.mp4")
    truth, queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    rows = {row["features"]: row for row in json.loads((compared / "compare.json").read_text())["rows"]}
    for name in ("patch", "svd"):
        tracks, asked, _, _ = read_tracks_npz(compared / f"{name}.tracks.npz")
        assert torch.equal(asked.frame, queries.frame)
        scores = score(tracks, truth.xy, truth.visibility, queries.frame, video.size, "strided")
        assert {measure: rows[name][measure] for measure in asdict(scores)} == pytest.approx(asdict(scores))
        cells = [f"{value:.1f}" for value in asdict(scores).values()]
        assert f"| {name} | {' | '.join(cells)} |" in (compared / "compare.md").read_text()


CLIP = Video(np.full((6, 90, 160, 3), 128, np.uint8), 24.0, "grey", "grey.mp4")
POINTS = QueryPoints(torch.tensor([0, 3]), torch.tensor([[40.0, 30.0], [120.0, 60.0]]), ("a", "b"))


def standing(*xy):
    """Tracks of points that are always seen where they are."""
    places = torch.tensor(xy)[:, None].expand(-1, CLIP.frame_count, -1)
    return Tracks(places, torch.ones(places.shape[:2], dtype=torch.bool), torch.ones(places.shape[:2]))


def bands(picture, axis):
    """(start, end) of each run of rows (axis 0) or columns (axis 1) that tiles fill, edges first."""
    filled = (np.abs(picture.astype(int) - PAPER).max(-1) > 25).mean(1 - axis) > 0.3
    edges = np.flatnonzero(np.diff(np.r_[0, filled.astype(int), 0]))
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_picture_has_the_query_points_and_a_row_for_each_extractor(count):
    shown = [Shown(f"extractor-{index}", standing((40.0, 30.0), (120.0, 60.0))) for index in range(count)]
    assert len(bands(compare_picture(shown, CLIP, POINTS, [1, 2, 4]), 0)) == 1 + count


def test_query_points_are_each_drawn_in_their_own_frame_alone():
    picture = compare_picture([Shown("patch", standing((40.0, 30.0), (120.0, 60.0)))], CLIP, POINTS, [1, 2])
    top = picture[slice(*bands(picture, 0)[0])]
    first, second = (top[:, slice(*band)].astype(int) for band in bands(top, 1)[:2])
    for tile, own, other in ((first, 0, 1), (second, 1, 0)):
        near = [np.abs(tile - colour).max(-1) < 10 for colour in point_colours(POINTS)[[own, other]]]
        assert near[0].any()
        assert not near[1].any()


def test_rows_of_extractors_that_disagree_differ_and_of_those_that_agree_do_not():
    here, there = standing((40.0, 30.0), (120.0, 60.0)), standing((80.0, 30.0), (120.0, 60.0))
    picture = compare_picture([Shown("a", here), Shown("b", there), Shown("c", here)], CLIP, POINTS, [1, 2])
    rows = [picture[slice(*band), LABEL_PX:] for band in bands(picture, 0)[1:]]
    assert (rows[0] != rows[1]).any()
    assert (rows[0] == rows[2]).all()


def test_a_frame_that_all_points_are_queried_in_shows_nothing_and_is_left_out():
    together = QueryPoints(torch.tensor([0, 0]), POINTS.xy, POINTS.names)
    assert shown_frames(CLIP, together, 3) == [1, 3, 5]
    assert shown_frames(CLIP, POINTS, 3) == [0, 2, 5]
    assert shown_frames(CLIP, POINTS, 20) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("count", [1, 3, 4, 5, 7])
@pytest.mark.parametrize("size", [(90, 160), (160, 91), (1080, 1920), (1920, 1080)])
def test_the_video_fits_a_screen_with_even_sides_in_rows_of_at_most_three(count, size):
    video = Video(np.full((1, *size, 3), 128, np.uint8), 24.0, "grey", "grey.mp4")
    points = QueryPoints(torch.tensor([0]), torch.tensor([[4.0, 4.0]]), ("a",))
    tracks = Tracks(torch.full((1, 1, 2), 4.0), torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 1))
    captions = (("AJ 50.0", True),)
    frame = next(compare_video([Shown("patch", tracks, captions)] * count, video, points))
    height, width = frame.shape[:2]
    assert height % 2 == width % 2 == 0
    assert width <= 1600
    assert height <= 1090
    assert len(bands(frame, 1)) == {1: 1, 3: 3, 4: 2, 5: 3, 7: 3}[count]


def test_the_video_has_a_frame_for_each_of_the_clips(compared):
    shown = read_video(compared / "compare.mp4")
    assert shown.frame_count == read_video(ASSETS / "koi.mp4").frame_count
    assert all(side % 2 == 0 for side in shown.size)


def compare(folder, out, *more):
    """Patches on 3 by 2 points of the bundled clip, as small as can be."""
    return main(
        [
            "compare-features",
            *("--video", str(ASSETS / "koi.mp4"), "--grid", "3", "--features", "patch"),
            *("--out", str(folder / out), "--cache", str(folder / "cache"), "--device", "cpu", "--quiet"),
            *("--set", *SIZE, *more),
        ]
    )


def test_without_the_truth_there_are_seconds_and_a_second_call_finds_the_features_kept(tmp_path):
    rows = []
    for out in ("first", "second"):
        assert compare(tmp_path, out) == 0
        rows += json.loads((tmp_path / out / "compare.json").read_text())["rows"]
    assert [row["features_kept"] for row in rows] == [False, True]
    assert [row["features_seconds"] is None for row in rows] == [False, True]
    assert "delta_avg" not in rows[0]
    assert "delta_avg" not in (tmp_path / "first" / "compare.md").read_text()
    tracks = [(tmp_path / out / "patch.tracks.npz").read_bytes() for out in ("first", "second")]
    assert tracks[0] == tracks[1]


def test_tracks_are_those_that_bench_calls_frozen(tmp_path):
    assert compare(tmp_path, "out", "features.extractor=patch", "adaptation.steps=0") == 0
    tracks, queries, _, _ = read_tracks_npz(tmp_path / "out" / "patch.tracks.npz")
    config = read_settings(Config(), None, [*SIZE, "features.extractor=patch", "adaptation.steps=0"])
    clip = open_clip(
        read_video(ASSETS / "koi.mp4"),
        config,
        Cache(tmp_path / "other"),
        torch.device("cpu"),
        bar=partial(progress_bar, quiet=True),
    )
    frozen = next(
        outcome
        for outcome in bench_methods(clip, queries, config, "x", {})
        if outcome.method == "frozen patch"
    )
    assert torch.equal(tracks.xy, frozen.tracks.xy)
    assert torch.equal(tracks.visibility, frozen.tracks.visibility)


def test_each_extractor_reads_its_own_model():
    base = FeaturesConfig(diffusion=DiffusionConfig(model="shared"))
    chosen = choose_features(base, [Choice("track4gen-mini"), Choice("svd"), Choice("dinov2", "dino")])
    assert chosen["track4gen-mini"].diffusion.model == ""
    assert chosen["svd"].diffusion.model == "shared"
    assert chosen["dinov2"].dinov2.model == "dino"
    assert {name: config.extractor for name, config in chosen.items()} == {name: name for name in chosen}
    apart = choose_features(base, [Choice("svd"), Choice("track4gen", "mine")])
    assert [apart[name].diffusion.model for name in ("svd", "track4gen")] == ["shared", "mine"]
    with pytest.raises(ConfigError, match="svd and track4gen would both read"):
        choose_features(base, [Choice("svd"), Choice("track4gen")])


def test_a_missing_model_is_refused_before_anything_is_written(tmp_path, capsys):
    out = tmp_path / "out"
    code = main(
        [
            "compare-features",
            *("--video", str(ASSETS / "koi.mp4"), "--grid", "3", "--out", str(out)),
            *("--features", "patch", f"svd={tmp_path / 'nothing'}", "--cache", str(tmp_path / "cache")),
        ]
    )
    assert code == 2
    said = capsys.readouterr().err
    assert "svd" in said
    assert "nothing" in said
    assert not out.exists()


@pytest.mark.parametrize("wrong", [["patch", "patch"], ["pach"], ["patch=somewhere"]])
def test_features_that_make_no_sense_are_wrong_usage(wrong, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare-features", "--video", "x.mp4", "--grid", "3", "--features", *wrong])
    assert stop.value.code == 2
    assert "--features" in capsys.readouterr().err
