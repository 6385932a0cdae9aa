"""``t4g compare-features``: the same points with the frozen features of several extractors."""

from __future__ import annotations

import json

import pytest
import torch
from tiny_models import save_tiny_svd
from tiny_published import save_tiny_dino

from t4g_tracker.__main__ import main
from t4g_tracker.bundled import TRACK4GEN_MINI
from t4g_tracker.commands.bench_job import bench_methods
from t4g_tracker.commands.compare_features import Choice, choose_features
from t4g_tracker.config import read_settings
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.extractor import extract_features
from t4g_tracker.features.settings import DiffusionConfig, DinoConfig, FeaturesConfig
from t4g_tracker.fitted import fit_clip
from t4g_tracker.inputs.video import read_video, working_frames
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.metrics import score
from t4g_tracker.outputs.track_files import read_tracks_npz
from t4g_tracker.pipeline import Config, open_clip
from t4g_tracker.stage_cache import Run
from t4g_tracker.storage.cache import Cache
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

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
            *("--set", *SIZE, "tracking.subpixel=false"),
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
        measures = score(tracks, truth, queries, video.size, "strided").measures()
        assert {measure: rows[name][measure] for measure in measures} == pytest.approx(measures)
        cells = [f"{value:.1f}" for value in measures.values()]
        assert f"| {name} | {' | '.join(cells)} |" in (compared / "compare.md").read_text()


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


def test_without_the_truth_there_are_seconds_and_a_second_call_finds_the_features_cached(tmp_path):
    rows = []
    for out in ("first", "second"):
        assert compare(tmp_path, out) == 0
        rows += json.loads((tmp_path / out / "compare.json").read_text())["rows"]
    assert [row["features_cached"] for row in rows] == [False, True]
    assert [row["features_seconds"] is None for row in rows] == [False, True]
    assert "delta_avg" not in rows[0]
    assert "delta_avg" not in (tmp_path / "first" / "compare.md").read_text()
    tracks = [(tmp_path / out / "patch.tracks.npz").read_bytes() for out in ("first", "second")]
    assert tracks[0] == tracks[1]


def test_tracks_are_those_that_bench_calls_frozen(tmp_path):
    assert compare(tmp_path, "out", "features.extractor=patch", "adaptation.steps=0") == 0
    tracks, queries, _, _ = read_tracks_npz(tmp_path / "out" / "patch.tracks.npz")
    config = read_settings(Config(), None, [*SIZE, "features.extractor=patch", "adaptation.steps=0"])
    run = Run(device=torch.device("cpu"), cache=Cache(tmp_path / "other"))
    fitted = fit_clip(open_clip(read_video(ASSETS / "koi.mp4"), config), config, run)
    outcomes = bench_methods(fitted, queries, "x", {})
    frozen = next(outcome for outcome in outcomes if outcome.name == "frozen patch")
    assert torch.equal(tracks.xy, frozen.tracks.xy)
    assert torch.equal(tracks.visibility, frozen.tracks.visibility)


def test_raw_features_are_matched_on_the_extractors_own_grid_as_they_are(tmp_path):
    """Overlapping patches, whose cells do not tile the frame; without --raw they are brought to tiles."""
    folder = save_tiny_dino(tmp_path / "dino")
    settings = [
        *SIZE,
        "features.dino.patch_stride=4",
        "features.dino.stride_px=4",
        "features.dino.half=false",
    ]
    video = ["--video", str(ASSETS / "koi.mp4"), "--frames", "0-3", "--grid", "3"]
    options = [
        "--features",
        f"dino={folder}",
        "--device",
        "cpu",
        "--quiet",
        "--cache",
        str(tmp_path / "cache"),
    ]
    for name, more in (("raw", ["--raw"]), ("prepared", [])):
        out = ["--out", str(tmp_path / name), *more]
        assert main(["compare-features", *video, *options, *out, "--set", *settings]) == 0
    read = {name: read_tracks_npz(tmp_path / name / "dino.tracks.npz") for name in ("raw", "prepared")}
    tracks, queries = read["raw"][:2]
    clip = read_video(ASSETS / "koi.mp4", frames=(0, 3))
    features = FeaturesConfig(
        extractor="dino", dino=DinoConfig(model=str(folder), patch_stride=4, stride_px=4, half=False)
    )
    grid = extract_features(working_frames(clip, (64, 128)), features, torch.device("cpu"), 0)
    assert grid.shape[2:] == (15, 31)
    expected = track(
        queries, grid, clip, MatchingConfig(), TrackingConfig(subpixel=False), VisibilityConfig()
    )
    assert torch.equal(tracks.xy, expected.xy)
    assert not torch.equal(tracks.xy, read["prepared"][0].xy)
    records = [json.loads((tmp_path / name / "compare.json").read_text()) for name in read]
    assert [record["raw"] for record in records] == [True, False]


def test_raw_features_that_are_fused_are_not_centred():
    choices = [Choice("fused")]
    assert choose_features(FeaturesConfig(), choices)["fused"].fused.centre
    assert not choose_features(FeaturesConfig(), choices, raw=True)["fused"].fused.centre


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
