"""``run_tracker.py --davis``: every sequence of a folder, as if each were tracked alone, in one table."""

import csv
import json
import shutil

import numpy as np
import pytest
from tiny_datasets import MOTIONS, davis_tree, tapvid_dict, write_pickle

import run_tracker
from t4g_tracker.outputs.track_files import read_tracks_npz


@pytest.fixture(scope="module")
def track(tiny_settings):
    """Runs the command with a cache beside the output folder; returns its exit code."""

    def run(root, out, *arguments):
        where = ["--davis", str(root), "--out", str(out), "--cache", str(out.parent / "cache")]
        settings = ["--device", "cpu", "--quiet", "--workers", "1", "--no-overlays", "--set", *tiny_settings]
        return run_tracker.main([*where, *map(str, arguments), *settings])

    return run


@pytest.fixture(scope="module")
def annotated(slide, ask, tmp_path_factory):
    return davis_tree(tmp_path_factory.mktemp("data") / "davis", slide, ask)


@pytest.fixture(scope="module")
def tracked(annotated, track, tmp_path_factory):
    out = tmp_path_factory.mktemp("davis") / "out"
    assert track(annotated, out) == 0
    return out


def rows(out):
    with (out / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_annotated_sequences_are_scored_in_one_table(tracked):
    found = rows(tracked)
    assert [row["clip"] for row in found if row["method"] == "finished tracker"] == list(MOTIONS)
    for row in found:
        if row["method"] == "finished tracker":
            assert float(row["delta_avg"]) > 95
    said = json.loads((tracked / "summary.json").read_text())
    assert [row["method"] for row in said["rows"] if row["clip"] == "mean"][-1] == "finished tracker"


def test_every_sequence_has_the_results_of_a_run_of_its_own(tracked, annotated, tiny_settings, tmp_path):
    run = json.loads((tracked / "left" / "run.json").read_text())
    assert run["arguments"]["sequence"] == "left"
    assert run["scores"]["finished tracker"]["delta_avg"] > 95
    tracks, queries, _, _ = read_tracks_npz(tracked / "left" / "tracks.npz")
    video = annotated / "JPEGImages" / "480p" / "left"
    alone = ["--video", str(video), "--queries", str(tracked / "left" / "tracks.npz"), "--device", "cpu"]
    places = ["--out", str(tmp_path / "alone"), "--cache", str(tracked.parent / "cache"), "--quiet"]
    assert run_tracker.main([*alone, *places, "--set", *tiny_settings]) == 0
    own, _, _, _ = read_tracks_npz(tmp_path / "alone" / "tracks.npz")
    assert (own.xy - tracks.xy).abs().max() < 1e-3
    assert len(queries) == len(tracks)


def test_first_queries_ask_for_each_point_once(annotated, track, tmp_path):
    assert track(annotated, tmp_path / "out", "--mode", "first", "--sequences", "right") == 0
    _, queries, _, _ = read_tracks_npz(tmp_path / "out" / "right" / "tracks.npz")
    assert queries.frame.tolist() == [0, 0, 0]
    assert [row["clip"] for row in rows(tmp_path / "out")][-1] == "right"


def test_a_sequence_and_the_table_count_the_same_frames(slide, ask, track, tmp_path):
    """With first queries, those after a point is first seen; here one is first seen in frame 3."""
    root = davis_tree(tmp_path / "davis", slide, ask)
    with np.load(root / "tracks" / "right.npz") as arrays:
        points, occluded = arrays["points"], arrays["occluded"]
    occluded[0, :3] = True
    points[0, 5:] += 0.5  # so that its error counts, and in how many frames of how many matters
    np.savez(root / "tracks" / "right.npz", points=points, occluded=occluded)
    out = tmp_path / "out"
    assert track(root, out, "--mode", "first", "--sequences", "right") == 0
    _, queries, _, _ = read_tracks_npz(out / "right" / "tracks.npz")
    assert sorted(queries.frame.tolist()) == [0, 0, 3]
    scores = json.loads((out / "right" / "run.json").read_text())["scores"]
    table = {row["method"]: float(row["delta_avg"]) for row in rows(out)}
    for method, score in scores.items():
        assert score["delta_avg"] == pytest.approx(table[method], abs=0.006)
    assert table["finished tracker"] < 95


def test_a_grid_without_points_is_refused(annotated, track, tmp_path):
    with pytest.raises(SystemExit):
        track(annotated, tmp_path / "out", "--grid", "0")


def test_truth_can_come_from_a_pickle(slide, ask, track, tracked, tmp_path):
    root = davis_tree(tmp_path / "bare", slide, ask, tracks=False)
    pickled = write_pickle(tmp_path / "set.pkl", tapvid_dict(slide, ask))
    assert track(root, tmp_path / "out", "--tapvid", pickled) == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (tracked / "results.csv").read_bytes()


def test_another_pickle_is_another_run(slide, ask, track, tmp_path, capsys):
    root = davis_tree(tmp_path / "bare", slide, ask)
    assert track(root, tmp_path / "out", "--sequences", "left") == 0
    pickled = write_pickle(tmp_path / "set.pkl", tapvid_dict(slide, ask))
    assert track(root, tmp_path / "out", "--sequences", "left", "--tapvid", pickled) == 2
    assert "batch.json: was made with tapvid=None and not " in capsys.readouterr().err


def test_a_sequence_without_tracks_is_told_before_any_work(slide, ask, track, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = davis_tree(tmp_path / "davis", slide, ask)
    made = tapvid_dict(slide, ask)
    del made["right"]
    assert track(root, tmp_path / "out", "--tapvid", write_pickle(tmp_path / "set.pkl", made)) == 2
    assert "has no tracks of right" in capsys.readouterr().err
    (tmp_path / "evil.pkl").write_bytes(b"cos\nsystem\n(S'touch was-run'\ntR.")
    assert track(root, tmp_path / "out", "--tapvid", tmp_path / "evil.pkl") == 2
    assert "names os.system" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


def test_without_tracks_points_are_laid_inside_the_first_mask(slide, ask, track, tmp_path):
    root = davis_tree(tmp_path / "bare", slide, ask, tracks=False)
    assert track(root, tmp_path / "out", "--grid", 3, "--foreground") == 0
    _, queries, _, _ = read_tracks_npz(tmp_path / "out" / "left" / "tracks.npz")
    assert len(queries) == 6  # the mask is 30 px wide and 24 px high
    x, y = queries.xy.unbind(1)
    assert ((x >= 30) & (x < 60) & (y >= 20) & (y < 44)).all()
    assert [(row["clip"], row["method"]) for row in rows(tmp_path / "out")] == [
        ("left", "finished tracker"),
        ("right", "finished tracker"),
    ]


def test_masks_that_are_wanted_and_not_there_are_told_before_any_work(annotated, track, tmp_path, capsys):
    root = shutil.copytree(annotated, tmp_path / "davis")
    shutil.rmtree(root / "Annotations" / "480p" / "right")
    assert track(root, tmp_path / "out", "--foreground") == 2
    assert "right: no such folder of masks; leave right out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_points_can_come_from_a_folder_of_query_files(annotated, track, tmp_path, capsys):
    (tmp_path / "left.json").write_text(json.dumps([[0, 40, 40]]))
    assert track(annotated, tmp_path / "out", "--queries", tmp_path) == 2
    assert "has no right.json" in capsys.readouterr().err  # told before any work
    assert not (tmp_path / "out").exists()
    assert track(annotated, tmp_path / "out", "--queries", tmp_path, "--sequences", "left") == 0
    _, queries, _, _ = read_tracks_npz(tmp_path / "out" / "left" / "tracks.npz")
    assert queries.xy.tolist() == [[40, 40]]


def test_a_folder_that_is_no_davis_is_one_line(track, tmp_path, capsys):
    assert track(tmp_path, tmp_path / "out") == 2
    assert "JPEGImages/480p: no such folder; give the root of DAVIS 2017" in capsys.readouterr().err
