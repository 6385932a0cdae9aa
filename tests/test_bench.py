"""``t4g bench`` on a data set made for the purpose: tables that say what was measured."""

import csv
import json

import numpy as np
import pytest
import torch

import run_comparisons
from t4g_tracker.cli import main as t4g
from t4g_tracker.coordinates import pixels_to_fractions
from t4g_tracker.datasets.frames_and_tracks import clip_names, load_clip
from t4g_tracker.errors import DatasetError

SIZE = (64, 96)


def annotate(root, clip, queries, name, **changes):
    """Write a clip's true tracks as TAP-Vid does."""
    xy, seen = clip.follow(queries)
    arrays = {"points": pixels_to_fractions(xy, SIZE).numpy(), "occluded": ~seen.numpy()} | changes
    (root / "tracks").mkdir(exist_ok=True)
    np.savez(root / "tracks" / f"{name}.npz", **arrays)
    return root


@pytest.fixture(scope="module")
def data(slide, ask, save_frames, tmp_path_factory):
    """Two clips in the DAVIS layout, of points that stay in the frame."""
    root = tmp_path_factory.mktemp("davis")
    queries = ask((0, 40, 40), (0, 60, 30), (0, 30.5, 45.25))
    for name, velocity in (("left", (-2.0, -1.5)), ("right", (3.0, 0.5))):
        clip = slide(7, SIZE, velocity)
        save_frames(clip, root / "JPEGImages" / "480p" / name)
        annotate(root, clip, queries, name)
    return root


@pytest.fixture(scope="module")
def measured(data, tiny_settings, tmp_path_factory):
    """The output folder of one run over both clips."""
    out = tmp_path_factory.mktemp("bench")
    where = ["--data", str(data), "--out", str(out / "tables"), "--cache", str(out / "cache")]
    code = t4g(["bench", *where, "--device", "cpu", "--quiet", "--set", *tiny_settings])
    assert code == 0
    return out / "tables"


def rows_of(folder):
    return json.loads((folder / "results.json").read_text())["rows"]


def test_every_clip_and_the_mean_have_a_row_for_each_method(measured):
    rows = rows_of(measured)
    methods = [row["method"] for row in rows if row["clip"] == "left"]
    assert methods[:2] == ["chained dis", "frozen patch"]
    assert "default" in methods[-1]
    assert [(row["clip"], row["method"]) for row in rows] == [
        (clip, method) for clip in ("left", "right", "mean") for method in methods
    ]


def test_the_mean_is_that_of_the_clips(measured):
    rows = {(row["clip"], row["method"]): row for row in rows_of(measured)}
    for clip, method in rows:
        if clip == "mean":
            for column in ("average_jaccard", "delta_avg", "occlusion_accuracy", "within_1px"):
                values = [rows[name, method][column] for name in ("left", "right")]
                assert rows["mean", method][column] == pytest.approx(np.mean(values))


def test_flow_of_a_sliding_texture_scores_high_so_that_annotations_and_tracks_are_on_the_same_grid(measured):
    for row in rows_of(measured):
        if row["method"].startswith("chained"):
            assert row["delta_avg"] > 95
            assert row["within_1px"] > 80


def test_the_tables_agree(measured):
    with (measured / "results.csv").open(newline="") as file:
        from_csv = list(csv.DictReader(file))
    from_json = rows_of(measured)
    for cells, row in zip(from_csv, [row for row in from_json if row["clip"] != "mean"], strict=True):
        assert (cells["clip"], cells["method"]) == (row["clip"], row["method"])
        for column, name in (("AJ", "average_jaccard"), ("OA", "occlusion_accuracy"), ("<1px", "within_1px")):
            assert float(cells[column]) == pytest.approx(row[name], abs=0.051)
    lines = (measured / "results.md").read_text().splitlines()
    from_markdown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    means = [cells for cells in from_markdown[2:] if cells[0] == "mean"]
    assert from_markdown[2:] == [list(cells.values()) for cells in from_csv] + means
    assert [cells[1] for cells in means] == [row["method"] for row in from_json if row["clip"] == "mean"]


def test_the_record_says_what_was_measured(measured, data):
    said = json.loads((measured / "results.json").read_text())
    assert (said["data"], said["mode"], said["evaluation_size"]) == (str(data), "strided", [256, 256])


def test_a_clip_is_read_as_it_was_annotated(data, slide, ask):
    annotated = load_clip(data, "right")
    xy, seen = slide(7, SIZE, (3.0, 0.5)).follow(ask((0, 40, 40), (0, 60, 30), (0, 30.5, 45.25)))
    torch.testing.assert_close(annotated.xy, xy, atol=1e-3, rtol=0)
    assert torch.equal(annotated.visibility, seen)
    assert clip_names(data, ["right"]) == ["right"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut", b"PK\x03\x04 and then nothing", "is not a file of points and occluded"),
        ("text", b"hello", "is not a file of points and occluded"),
        (
            "frames",
            {"points": np.zeros((3, 5, 2)), "occluded": np.zeros((3, 5))},
            "has 5 frames, the clip has 7",
        ),
        ("shape", {"occluded": np.zeros((3, 4))}, "do not fit together"),
    ],
)
def test_a_damaged_annotation_is_refused_by_name(slide, ask, save_frames, tmp_path, name, content, said):
    clip = slide(7, SIZE)
    save_frames(clip, tmp_path / "JPEGImages" / "480p" / name)
    arrays = content if isinstance(content, dict) else {}
    annotate(tmp_path, clip, ask((0, 40, 40)), name, **arrays)
    if isinstance(content, bytes):
        (tmp_path / "tracks" / f"{name}.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=said) as caught:
        load_clip(tmp_path, name)
    assert str(tmp_path / "tracks" / f"{name}.npz") in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "has no tracks/<clip>.npz"), (["--clips", "up"], "has no clip up; it has left, right")],
)
def test_a_data_set_that_is_not_there_is_one_line_and_no_table(data, tmp_path, capsys, arguments, said):
    where = data if arguments else tmp_path
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    code = run_comparisons.bench(["--data", str(where), *places, *arguments])
    assert code == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "out").exists()
    with pytest.raises(DatasetError, match=said):
        clip_names(where, arguments[1:] or None)
