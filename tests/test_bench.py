"""``t4g bench`` on a data set made for the purpose: tables that say what was measured."""

import csv
import json
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import ray
from tiny_datasets import SIZE, annotations, badja_tree, davis_tree, tapvid_dict, write_pickle

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.bundled import RAFT_MINI
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.errors import DatasetError
from t4g_tracker.inputs.video import read_video
from t4g_tracker.metrics import MEASURES
from t4g_tracker.occlusion_metrics import HIDDEN_MEASURES, REAPPEARANCE_MEASURES
from t4g_tracker.storage.cache import Cache
from t4g_tracker.storage.torch_files import load_torch
from t4g_tracker.synthetic import settings as synthetic_settings
from t4g_tracker.training.flow.objective import new_raft, save_raft

TINY_VAL = synthetic_settings.ValConfig(clips=2, frames=4, size=(64, 96), points=16)


def annotate(root, clip, queries, name, **changes):
    """Write a clip's true tracks as TAP-Vid does."""
    (root / "tracks").mkdir(exist_ok=True)
    np.savez(root / "tracks" / f"{name}.npz", **(annotations(clip, queries) | changes))
    return root


@pytest.fixture(scope="module")
def data(slide, ask, tmp_path_factory):
    """Two clips in the DAVIS layout, of points that stay in the frame."""
    return davis_tree(tmp_path_factory.mktemp("data") / "davis", slide, ask)


@pytest.fixture(scope="module")
def run_bench(tiny_settings):
    """Runs ``t4g bench`` on tiny settings with a cache in the output folder's parent; returns its code."""

    def run(out, *arguments):
        where = ["--out", str(out), "--cache", str(out.parent / "cache"), "--device", "cpu", "--quiet"]
        return t4g(["bench", *where, *map(str, arguments), "--set", *tiny_settings])

    return run


@pytest.fixture(scope="module")
def measured(data, run_bench, tmp_path_factory):
    """The output folder of one run over both clips."""
    out = tmp_path_factory.mktemp("bench") / "tables"
    assert run_bench(out, "--data", data, "--workers", 1) == 0
    return out


def rows_of(folder):
    """Rows of summary.json, each with its measures beside its clip and method."""
    rows = json.loads((folder / "summary.json").read_text())["rows"]
    return [{**row, **row["measures"]} for row in rows]


def test_every_clip_and_the_mean_have_a_row_for_each_method(measured):
    rows = rows_of(measured)
    methods = [row["method"] for row in rows if row["clip"] == "left"]
    assert methods[:2] == ["flow alone, dis", "frozen patch"]
    assert "default" in methods[-1]
    assert [(row["clip"], row["method"]) for row in rows] == [
        (clip, method) for clip in ("left", "right", "mean") for method in methods
    ]


def test_the_mean_is_that_of_the_clips(measured):
    rows = {(row["clip"], row["method"]): row for row in rows_of(measured)}
    for clip, method in rows:
        if clip == "mean":
            for column in ("AJ", "delta_avg", "OA", "<1px"):
                values = [rows[name, method][column] for name in ("left", "right")]
                assert rows["mean", method][column] == pytest.approx(np.mean(values))


def test_flow_of_a_sliding_texture_scores_high_so_that_annotations_and_tracks_are_on_the_same_grid(measured):
    for row in rows_of(measured):
        if row["method"].startswith("flow alone"):
            assert row["delta_avg"] > 95
            assert row["<1px"] > 80


def test_the_tables_agree(measured):
    from_csv, timings = (read_csv(measured / name) for name in ("results.csv", "timings.csv"))
    from_json = rows_of(measured)
    clips = [row for row in from_json if row["clip"] != "mean"]
    for cells, spent, row in zip(from_csv, timings, clips, strict=True):
        assert (
            (cells["clip"], cells["method"])
            == (spent["clip"], spent["method"])
            == (row["clip"], row["method"])
        )
        assert cells["error"] == ""
        for column in ("AJ", "delta_avg", "OA", "<1px"):
            assert float(cells[column]) == pytest.approx(row[column], abs=0.0051)
        assert float(spent["seconds"]) == pytest.approx(row["seconds"], abs=0.051)
    lines = (measured / "results.md").read_text().splitlines()
    assert "strided queries" in lines[0]
    from_markdown = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[4:]]
    said = [
        ["mean of 2" if row["clip"] == "mean" else row["clip"], row["method"], f"{row['AJ']:.1f}"]
        for row in from_json
    ]
    assert [cells[:3] for cells in from_markdown] == said


def test_accuracy_under_occlusion_is_in_the_files_and_shown_on_demand(measured, data, run_bench, capsys):
    columns = list(read_csv(measured / "results.csv")[0])
    assert columns == ["clip", "method", *MEASURES, *REAPPEARANCE_MEASURES, "error"]  # hidden places unknown
    assert "AJ_RD" not in (measured / "results.md").read_text()
    capsys.readouterr()
    before = (measured / "journal.jsonl").read_bytes()
    assert run_bench(measured, "--data", data, "--occlusion") == 0
    assert (measured / "journal.jsonl").read_bytes() == before  # nothing was measured again
    header = (measured / "results.md").read_text().splitlines()[2].strip("| ").split(" | ")
    assert header[2:-2] == [*MEASURES, *REAPPEARANCE_MEASURES]
    assert "AJ_RD" in capsys.readouterr().out
    assert run_bench(measured, "--data", data) == 0
    assert "AJ_RD" not in (measured / "results.md").read_text()


def test_the_record_says_what_was_measured(measured, data):
    said = json.loads((measured / "summary.json").read_text())
    assert said["data"] == str(data)
    assert said["protocol"] == "davis, TAP-Vid, strided queries, measured at 256x256, as stored, all frames"
    assert said["settings"]["default"]["adaptation"]["steps"] == 20
    assert said["failures"] == []


def test_every_clip_has_a_video_of_its_tracks(measured):
    assert [path.stem for path in sorted((measured / "overlays").iterdir())] == ["left", "right"]
    assert read_video(measured / "overlays" / "left.mp4").frame_count == 7


def test_the_same_command_measures_nothing_again(measured, data, run_bench, capsys):
    before = (measured / "journal.jsonl").read_bytes()
    assert run_bench(measured, "--data", data, "--workers", 1) == 0
    assert "2 of 2 clips are done already" in capsys.readouterr().out
    assert (measured / "journal.jsonl").read_bytes() == before


def test_other_settings_do_not_mix_with_what_is_there(measured, data, run_bench, capsys):
    assert run_bench(measured, "--data", data, "--mode", "first") == 2
    error = capsys.readouterr().err
    assert f"{measured / 'batch.json'}: was made with protocol=davis, TAP-Vid, strided queries" in error
    assert "choose another --out, or --fresh" in error


def test_other_weights_in_the_same_file_do_not_mix_with_what_is_there(data, run_bench, tmp_path, capsys):
    weights, out = tmp_path / "raft.safetensors", tmp_path / "out"
    shutil.copy(RAFT_MINI, weights)
    only = ["--data", data, "--clips", "left", "--workers", 1, "--set"]
    only += ["flow.method=raft-small", f"flow.weights={weights}", "flow.updates=4"]
    assert run_bench(out, *only) == 0
    assert run_bench(out, *only) == 0
    save_raft(new_raft("", seed=1), weights)
    assert run_bench(out, *only) == 2
    assert "batch.json: was made with weights.default=" in capsys.readouterr().err


def test_two_processes_come_to_the_same_results_as_one(measured, data, run_bench, tmp_path):
    assert run_bench(tmp_path / "two", "--data", data, "--workers", 2, "--no-overlays") == 0
    assert (tmp_path / "two" / "results.csv").read_bytes() == (measured / "results.csv").read_bytes()


def test_a_cluster_comes_to_the_same_results(measured, data, run_bench, tmp_path):
    assert run_bench(tmp_path / "ray", "--data", data, "--ray", "local", "--no-overlays") == 0
    assert (tmp_path / "ray" / "results.csv").read_bytes() == (measured / "results.csv").read_bytes()
    ray.shutdown()


def test_times_are_those_of_the_work_and_not_of_reading_the_cache(measured, data, run_bench, tmp_path):
    cache = shutil.copytree(measured.parent / "cache", tmp_path / "cache")
    for path in cache.rglob("*.pt"):  # as if every stage had once taken a thousand seconds
        entry = load_torch(path, "cache", "")
        Cache(path.parent).save(entry["kind"], entry["key"], entry["payload"], seconds=1000.0)
    again = tmp_path / "again"
    assert run_bench(again, "--data", data, "--clips", "left", "--workers", 1) == 0
    taken = {row["method"]: float(row["seconds"]) for row in read_csv(again / "timings.csv")}
    assert len(taken) == 4
    assert all(seconds >= 1000 for seconds in taken.values())
    assert taken["default"] >= 3000  # features, flow and adaptation


@pytest.mark.parametrize("vary", ["adapter=lite,delta-cnn", "head=softmax,cnn"])
def test_adapters_of_other_grids_and_other_heads_have_baselines_of_their_own(data, run_bench, tmp_path, vary):
    out = tmp_path / "out"
    only = ("--data", data, "--clips", "left", "--workers", 1)
    assert run_bench(out, *only, "--vary", f"adaptation.{vary}") == 0
    methods = [row["method"] for row in read_csv(out / "results.csv")]
    assert "frozen patch" in methods
    name, _, kinds = vary.partition("=")
    assert f"frozen patch, adaptation.{name}={kinds.partition(',')[2]}" in methods


DIE_AFTER_A_CLIP = """
import os, signal, sys
from t4g_tracker.__main__ import main
from t4g_tracker.batch.journal import Journal

def add_and_die(journal, outcome):
    add(journal, outcome)
    os.kill(os.getpid(), signal.SIGKILL)

add, Journal.add = Journal.add, add_and_die
main(sys.argv[1:])
"""


def test_a_run_killed_in_the_middle_goes_on_to_the_same_results(
    measured, data, run_bench, tiny_settings, tmp_path
):
    out = tmp_path / "killed"
    where = ["--data", str(data), "--out", str(out), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    command = ["bench", *where, "--quiet", "--workers", "1", "--set", *tiny_settings]
    done = subprocess.run([sys.executable, "-c", DIE_AFTER_A_CLIP, *command])
    assert done.returncode == -signal.SIGKILL
    journal = out / "journal.jsonl"
    assert {row["clip"] for row in read_csv(out / "results.csv")} == {"left"}
    with journal.open("ab") as file:
        file.write(b'{"clip": "right", "lines": [')  # as a kill in the middle of a write leaves it
    assert run_bench(out, "--data", data, "--workers", 1) == 0
    assert (out / "results.csv").read_bytes() == (measured / "results.csv").read_bytes()


def test_a_published_pickle_gives_the_scores_of_the_folder(measured, slide, ask, run_bench, tmp_path):
    pickled = write_pickle(tmp_path / "set.pkl", tapvid_dict(slide, ask))
    assert run_bench(tmp_path / "out", "--dataset", "tapvid-davis", "--path", pickled, "--workers", 1) == 0
    assert (tmp_path / "out" / "results.csv").read_bytes() == (measured / "results.csv").read_bytes()


def test_badja_is_scored_by_its_own_measures(slide, run_bench, tmp_path):
    root = badja_tree(tmp_path / "badja", slide)
    assert run_bench(tmp_path / "out", "--dataset", "badja", "--path", root, "--workers", 1) == 0
    rows = {row["method"]: row for row in rows_of(tmp_path / "out") if row["clip"] == "beast"}
    assert rows["flow alone, dis"]["segment"] == 100
    assert rows["flow alone, dis"]["3px"] > 90


def test_a_clip_that_fails_is_recorded_and_the_rest_goes_on(data, run_bench, tmp_path, capsys):
    root = shutil.copytree(data, tmp_path / "davis")
    frame = root / "JPEGImages" / "480p" / "left" / "00003.png"
    whole = frame.read_bytes()
    frame.write_bytes(b"no picture")
    out = tmp_path / "out"
    assert run_bench(out, "--data", root, "--workers", 1) == 1
    assert f"failed: left: {frame}: is not an image" in capsys.readouterr().out
    rows = read_csv(out / "results.csv")
    assert "is not an image" in rows[0]["error"]
    assert [row["clip"] for row in rows[1:]] == ["right"] * 4
    assert "is not an image" in (out / "report.html").read_text()
    frame.write_bytes(whole)
    assert run_bench(out, "--data", root, "--workers", 1) == 0  # the same command tries again
    assert {row["clip"]: row["error"] for row in read_csv(out / "results.csv")} == {"left": "", "right": ""}


def test_varied_settings_share_their_baselines(data, run_bench, tmp_path):
    out = tmp_path / "out"
    only = ("--data", data, "--clips", "left", "--workers", 1)
    assert run_bench(out, *only, "--vary", "adaptation.width=16,32") == 0
    assert [row["method"] for row in read_csv(out / "results.csv")] == [
        "flow alone, dis",
        "frozen patch",
        "adaptation.width=16, matching alone",
        "adaptation.width=16",
        "adaptation.width=32, matching alone",
        "adaptation.width=32",
    ]


def test_a_baseline_that_varies_is_named_after_its_settings(data, run_bench, tmp_path):
    out = tmp_path / "out"
    only = ("--data", data, "--clips", "left", "--workers", 1)
    assert run_bench(out, *only, "--vary", "tracking.subpixel=true,false") == 0
    methods = [row["method"] for row in read_csv(out / "results.csv")]
    assert [method for method in methods if method.startswith(("frozen", "flow alone"))] == [
        "flow alone, dis",
        "frozen patch",
        "frozen patch, tracking.subpixel=false",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut", b"PK\x03\x04 and then nothing", "is not readable as numpy's"),
        ("text", b"hello", "is not readable as numpy's"),
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
        FolderClips(tmp_path).load(name)
    assert str(tmp_path / "tracks" / f"{name}.npz") in str(caught.value)


def test_an_annotation_larger_than_memory_is_not_read(slide, ask, tmp_path, monkeypatch):
    annotate(tmp_path, slide(7, SIZE), ask((0, 40, 40)), "clip")
    monkeypatch.setattr("t4g_tracker.datasets.frames_and_tracks._MOST_BYTES", 100)
    with pytest.raises(DatasetError, match=r"clip\.npz: .* more than the 0 MB that are read"):
        FolderClips(tmp_path).visibility("clip")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [([], "has no tracks/<clip>.npz"), (["--clips", "up"], "has no clip up; it has left, right")],
)
def test_a_data_set_that_is_not_there_is_one_line_and_no_table(data, tmp_path, capsys, arguments, said):
    where = data if arguments else tmp_path
    places = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    code = t4g(["bench", "--data", str(where), *places, *arguments])
    assert code == 2
    assert re.search(f"^error: .*{said}", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_synthetic_val_is_made_once(run_bench, tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic_settings, "ValConfig", lambda: TINY_VAL)
    only = ("--dataset", "synthetic-val", "--clips", "synthetic-01", "--workers", 1)
    assert run_bench(tmp_path / "out", *only) == 0
    (kept,) = (tmp_path / "cache" / "synthetic-val").rglob("synthetic-01.npz")
    written = kept.stat().st_mtime_ns
    assert run_bench(tmp_path / "again", *only) == 0
    assert kept.stat().st_mtime_ns == written
    measured = rows_of(tmp_path / "out")[0]["measures"]
    assert list(measured) == [*MEASURES, *REAPPEARANCE_MEASURES, *HIDDEN_MEASURES]
    assert (tmp_path / "again" / "results.csv").read_bytes() == (
        tmp_path / "out" / "results.csv"
    ).read_bytes()


def test_a_malicious_pickle_is_refused_before_anything_runs(run_bench, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(b"cos\nsystem\n(S'touch was-run'\ntR.")
    assert run_bench(tmp_path / "out", "--dataset", "robotap", "--path", path) == 2
    assert "names os.system" in capsys.readouterr().err
    assert not (tmp_path / "was-run").exists()
    assert not (tmp_path / "out").exists()


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
