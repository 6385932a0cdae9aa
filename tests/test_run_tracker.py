"""The command line from end to end on a clip of eight small frames, and what it says to bad input."""

import contextlib
import json
import logging
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

import adaptation.loop
import run_tracker
from t4g_tracker import pipeline as stages
from t4g_tracker.commands.guarded import LARGE_PAGES, stop_on_interrupt
from t4g_tracker.commands.runs import points_name
from t4g_tracker.commands.track import parse_track
from t4g_tracker.datatypes import Tracks
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.outputs import run_files
from t4g_tracker.outputs.run_files import RUN
from t4g_tracker.outputs.track_files import read_tracks_npz, write_tracks_npz
from t4g_tracker.storage.files import locked_folder

SIZE = (64, 96)
POINTS = [{"frame": 0, "x": 40, "y": 40, "name": "nose"}, {"frame": 5, "x": 60.25, "y": 30.5}]


@pytest.fixture(scope="module")
def clip(slide):
    return slide(8, SIZE, (2.0, -1.0))


@pytest.fixture(scope="module")
def inputs(clip, ask, save_frames, tmp_path_factory):
    """A folder with the clip, query points, and their true tracks."""
    folder = tmp_path_factory.mktemp("inputs")
    save_frames(clip, folder / "clip")
    (folder / "noise").mkdir()
    for index, frame in enumerate(np.random.default_rng(0).integers(0, 256, (8, *SIZE, 3), dtype=np.uint8)):
        Image.fromarray(frame).save(folder / "noise" / f"{index}.png")
    (folder / "points.json").write_text(json.dumps({"queries": POINTS}))
    (folder / "outside.json").write_text(json.dumps([{"frame": 0, "x": 96.0, "y": 10}]))
    (folder / "late.json").write_text(json.dumps([{"frame": 96, "x": 9, "y": 10}]))
    queries = ask(*((point["frame"], point["x"], point["y"]) for point in POINTS))
    xy, seen = clip.follow(queries)
    truth = Tracks(xy, seen, seen.float())
    write_tracks_npz(folder / "truth.npz", truth, queries, SIZE, 24.0)
    whole = bytearray((folder / "truth.npz").read_bytes())
    whole[60:70] = b"0123456789"  # within the packed numbers of its first array
    (folder / "damaged.npz").write_bytes(whole)
    (folder / "masks").mkdir()
    for index in range(8):
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(folder / "masks" / f"{index}.png")
    write_tracks_npz(folder / "other_points.npz", truth, ask((0, 1, 1), (5, 2, 2)), SIZE, 24.0)
    write_tracks_npz(folder / "other_size.npz", truth, queries, (96, 64), 24.0)
    return folder


@pytest.fixture(scope="module")
def command(inputs, tiny_settings):
    """Runs the command on the clip; later arguments overrule earlier ones."""
    what = ["--video", str(inputs / "clip"), "--queries", str(inputs / "points.json")]

    def run(out, cache, *more):
        where = ["--out", str(out), "--cache", str(cache), "--device", "cpu", "--quiet"]
        return run_tracker.main([*what, *where, "--set", *tiny_settings, *more])

    return run


@pytest.fixture(scope="module")
def finished(inputs, command, tmp_path_factory):
    """Output and cache folder of a whole run, with every picture and the truth beside it."""
    folder = tmp_path_factory.mktemp("finished")
    pictures = ["--set", "outputs.overlay=true", "outputs.progress=true"]
    assert command(folder / "out", folder / "cache", "--gt", str(inputs / "truth.npz"), *pictures) == 0
    return folder


@pytest.fixture
def kept(finished, tmp_path):
    """A copy of what the whole run has kept."""
    return shutil.copytree(finished / "cache", tmp_path / "kept")


def stages_of(folder):
    return set(json.loads((folder / "run.json").read_text())["stages"])


def test_a_run_leaves_tracks_pictures_and_a_record(finished):
    assert {path.name for path in (finished / "out").iterdir()} == {
        "tracks.npz", "tracks.csv", "overlay.mp4", "progress.png", "progress.mp4", "curve.png", "run.json",
    }  # fmt: skip
    assert {"features", "flow", "trajectories", "adaptation", "tracking"} <= stages_of(finished / "out")


def test_the_tracks_are_of_the_points_that_were_asked_for_and_follow_them(finished, clip):
    tracks, queries, size, _ = read_tracks_npz(finished / "out" / "tracks.npz")
    assert size == SIZE
    assert queries.names[0] == "nose"
    rows = torch.arange(2)
    assert torch.equal(tracks.xy[rows, queries.frame], torch.tensor([[40.0, 40.0], [60.25, 30.5]]))
    assert (tracks.xy - clip.follow(queries)[0]).norm(dim=-1).max() < 1


def test_the_record_names_settings_seed_and_accuracy(finished):
    record = json.loads((finished / "out" / "run.json").read_text())
    assert record["settings"]["adaptation"]["steps"] == 20
    assert record["seed"] == 0
    assert "frozen features" in record["scores"]
    assert list(record["scores"].values())[-1]["delta_avg"] > 90


def test_the_record_says_what_was_asked_of_which_video_by_which_program(finished, inputs):
    record = json.loads((finished / "out" / "run.json").read_text())
    assert record["finished"] is True
    assert record["files"] == sorted(path.name for path in (finished / "out").iterdir())
    assert f"--video {inputs / 'clip'} --queries" in record["command"]
    assert record["arguments"]["grid"] is None
    video, points = record["video"], record["points"]
    assert (video["frames"], video["width"], video["height"], video["fps"]) == (8, 96, 64, 24.0)
    assert video["source"] == str(inputs / "clip")
    assert (points["count"], points["source"]) == (2, str(inputs / "points.json"))
    assert record["warnings"] == []


def test_pictures_of_an_earlier_run_are_gone_if_this_one_paints_none(
    kept, finished, command, tmp_path, capsys
):
    assert {path.name for path in (finished / "out").iterdir()} == RUN.files
    out = shutil.copytree(finished / "out", tmp_path / "out")
    assert command(out, kept, "--set", "outputs.overlay=true") == 0
    assert "out: overlay.mp4, run.json, tracks.csv, tracks.npz\n" in capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "overlay.mp4", "run.json", "tracks.csv", "tracks.npz",
    ]  # fmt: skip


def test_by_default_each_video_and_question_has_a_folder_of_its_own(
    kept, inputs, tiny_settings, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(inputs / "noise", tmp_path / "other" / "clip")
    calls = [
        ("clip/points", ["--video", inputs / "clip", "--queries", inputs / "points.json"]),
        ("clip/grid-3@7", ["--video", inputs / "clip", "--grid", 3, "--grid-frame", 7]),
        ("clip/points-2", ["--video", "other/clip", "--queries", inputs / "points.json"]),
        ("clip/points", ["--video", inputs / "clip", "--queries", inputs / "points.json"]),
    ]
    for folder, what in calls:
        where = ["--cache", str(kept), "--device", "cpu", "--quiet"]
        settings = [*tiny_settings, "adaptation.steps=0", "tracking.motion=false"]
        assert run_tracker.main([*map(str, what), *where, "--set", *settings]) == 0
        said = capsys.readouterr()
        assert f"results in outputs/{folder}: run.json, tracks.csv, tracks.npz\n" in said.out
        assert ("points: holds results of" in said.err) == (folder == "clip/points-2")
    record = json.loads((tmp_path / "outputs" / "clip" / "points-2" / "run.json").read_text())
    assert len(record["warnings"]) == 1
    assert record["video"]["source"] == str(tmp_path / "other" / "clip")


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        (["--queries", "some/koi.queries.json"], "koi.queries"),
        (["--grid", "4"], "grid-4"),
        (["--grid", "4", "--grid-frame", "30", "--mask", "masks/dog.png"], "grid-4@30-dog"),
        (["--grid", "4", "--mask", "dog.png", "--mask-object", "0,128,0"], "grid-4-dog-0,128,0"),
        (["--queries", "q.csv", "--first-frames", "48"], "q-first-48"),
        (["--queries", "q.csv", "--frames", "100-180"], "q-frames-100-180"),
        (["--queries", "a:b?.json"], "a_b_"),
    ],
)
def test_the_folder_is_called_after_the_points(asked, name):
    assert points_name(parse_track(["--video", "x.mp4", *asked])) == name


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("{}/clip", "clip: results would lie among the files read from it; choose another --out"),
        ("{}/masks", "masks: results would lie among the files read from it; choose another --out"),
    ],
)
def test_results_are_not_written_among_the_frames(inputs, command, tmp_path, capsys, out, said):
    before = sorted((inputs / "clip").iterdir())
    masks = ["--foreground", str(inputs / "masks")]
    assert command(out.format(inputs), tmp_path / "cache", *masks) == 2
    assert said in capsys.readouterr().err
    assert sorted((inputs / "clip").iterdir()) == before
    assert not (tmp_path / "cache").exists()


def test_ctrl_c_while_pictures_are_painted_leaves_the_tracks_and_says_so(
    kept, finished, command, tmp_path, monkeypatch, capsys
):
    def press_ctrl_c(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(run_files, "plot_curve", press_ctrl_c)
    assert command(tmp_path / "out", kept, "--set", "outputs.progress=true") == 130
    said = capsys.readouterr().err
    there = "tracks.npz, tracks.csv, progress.png, progress.mp4"
    assert f"out has {there}, but not curve.png; the same command writes them all" in said
    assert json.loads((tmp_path / "out" / "run.json").read_text())["finished"] is False
    tracks = (tmp_path / "out" / "tracks.npz").read_bytes()
    assert tracks == (finished / "out" / "tracks.npz").read_bytes()
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_asking_for_other_points_reuses_what_the_video_taught(kept, command, tmp_path, monkeypatch, capsys):
    for work in ("extract_features", "FlowEstimator", "adapt"):
        monkeypatch.setattr(stages, work, None)  # calling it would fail
    (tmp_path / "more.json").write_text(json.dumps([[5, 50, 30], [5, 70, 20], [0, 30, 50]]))
    assert command(tmp_path / "out", kept, "--queries", str(tmp_path / "more.json")) == 0
    assert "adaptation" in stages_of(tmp_path / "out")  # which measures how well frozen features match
    said = capsys.readouterr().out
    assert "took features cached, flow cached, adaptation cached, query_flow cached, tracking " in said
    assert len(np.load(tmp_path / "out" / "tracks.npz")["tracks"]) == 3


def test_points_in_other_frames_need_flow_from_these_frames_alone(
    kept, command, tmp_path, monkeypatch, capsys
):
    for work in ("extract_features", "make_trajectories", "adapt"):
        monkeypatch.setattr(stages, work, None)
    estimators = []

    class Watched(FlowEstimator):
        def both_ways(self, frames, pairs, *others):
            estimators.append(pairs)
            return super().both_ways(frames, pairs, *others)

    monkeypatch.setattr(stages, "FlowEstimator", Watched)
    (tmp_path / "more.json").write_text(json.dumps([[3, 50, 30], [0, 70, 20]]))
    assert command(tmp_path / "out", kept, "--queries", str(tmp_path / "more.json")) == 0
    assert estimators == [[(0, 3), (3, 6)]]  # of pairs with frame 3, these are over none of the gaps
    assert "flow cached, adaptation cached, query_flow " in capsys.readouterr().out


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(command, tmp_path):
    found = {}
    alone = ["--set", "tracking.motion=false"]  # or flow decides, which has no seed
    for name, more in (("first", []), ("again", []), ("other", ["--seed", "1"])):
        assert command(tmp_path / name, tmp_path / "cache", "--fresh", *alone, *more) == 0
        found[name] = (tmp_path / name / "tracks.npz").read_bytes()
        assert "adaptation" in stages_of(tmp_path / name)
    assert found["first"] == found["again"]
    assert found["first"] != found["other"]


def test_without_steps_the_frozen_features_are_tracked_and_nothing_is_fitted(kept, command, tmp_path):
    assert command(tmp_path / "out", kept, "--set", "adaptation.steps=0") == 0
    assert "adaptation" in stages_of(tmp_path / "out")  # which measures how well frozen features match


def test_the_first_frames_alone_are_tracked_on_request(inputs, tiny_settings, tmp_path):
    (tmp_path / "early.json").write_text(json.dumps(POINTS[:1]))
    what = ["--video", str(inputs / "clip"), "--queries", str(tmp_path / "early.json"), "--quiet"]
    where = ["--out", str(tmp_path / "out"), "--cache", str(tmp_path / "cache"), "--device", "cpu"]
    first = ["--first-frames", "5", "--set", *tiny_settings, "adaptation.steps=0"]
    masks = ["--foreground", str(inputs / "masks")]  # one for each of all its frames
    assert run_tracker.main([*what, *where, *masks, *first]) == 0
    assert np.load(tmp_path / "out" / "tracks.npz")["tracks"].shape == (1, 5, 2)


def test_a_grid_of_points_needs_no_file(kept, inputs, tiny_settings, tmp_path):
    what = ["--video", str(inputs / "clip"), "--grid", "4", "--grid-frame", "7", "--device", "cpu", "--quiet"]
    where = ["--out", str(tmp_path / "out"), "--cache", str(kept)]
    assert run_tracker.main([*what, *where, "--set", *tiny_settings]) == 0
    _, queries, _, _ = read_tracks_npz(tmp_path / "out" / "tracks.npz")
    assert (queries.frame == 7).all()
    assert len(queries) >= 8


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--video", "no_such.mp4"], "no_such.mp4"),
        (["--queries", "{}/no_such.json"], "no_such.json: no such file"),
        (["--queries", "{}/outside.json"], "outside"),
        (["--queries", "{}/late.json"], "is in frame 96, but"),
        (
            ["--set", "adaptation.stepz=3"],
            "--set: adaptation.stepz is not a setting; did you mean adaptation.steps?",
        ),
        (["--config", "no_such.yaml"], "no_such.yaml: no such file; give a YAML file, or a name that comes"),
        (["--device", "nonsense"], "device nonsense: is not a device; write auto, cpu, cuda, cuda:1 or mps"),
        (["--device", "cuda:99"], "device cuda:99: "),
        (["--gt", "{}/other_points.npz"], "its query points are not the ones to track"),
        (["--gt", "{}/other_size.npz"], "true tracks are of 8 frames of 64x96"),
        (["--foreground", "{}"], "has 0 mask images, but"),
        (["--foreground", "{}/no_masks"], "no_masks: no such folder"),
        (["--foreground", "{}/points.json"], "points.json: no such folder"),
        (["--gt", "{}/damaged.npz"], "damaged.npz: its array tracks is not readable"),
        (["--first-frames", "5"], "is in frame 5, but {}/clip (first 5 frames) has 5 frames"),
        (
            ["--set", "features.extractor=track4gen", "features.diffusion.model=nowhere/at/all"],
            "nowhere/at/all",
        ),
        (
            ["--video", "{}/noise", "--set", "trajectories.uncertainty_px=0.01"],
            "no point of the video survives",
        ),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_earlier_results_alone(
    inputs, command, tmp_path, capsys, more, said
):
    out = tmp_path / "out"
    out.mkdir()
    (out / "tracks.npz").write_text("earlier results")
    capsys.readouterr()
    code = command(out, tmp_path / "cache", *(part.format(inputs) for part in more))
    *warned, error = capsys.readouterr().err.splitlines()
    assert code == 2
    assert error.startswith("error: ")
    assert all(line.startswith(f"warning: {out}: holds results of") for line in warned)
    assert said.format(inputs) in error
    assert [path.name for path in out.iterdir()] == ["tracks.npz"]
    assert (out / "tracks.npz").read_text() == "earlier results"


@pytest.mark.parametrize(
    "more",
    [
        ["--device", "cuda:99"],
        ["--config", "nosuch"],
        ["--set", "flow.method=raft-mini", "flow.weights=nowhere.pth"],
        ["--set", "flow.weights=nowhere.pth"],
        ["--set", "features.extractor=svd", "features.diffusion.model=nowhere"],
    ],
    ids=" ".join,
)
def test_what_is_mistyped_is_noticed_before_any_folder_is_made(command, tmp_path, capsys, more):
    assert command(tmp_path / "out", tmp_path / "cache", *more) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not list(tmp_path.iterdir())


def test_an_output_folder_with_a_file_in_its_way_is_said_before_any_work(command, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert command(tmp_path / "file" / "out", tmp_path / "cache") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "cache").exists()
    assert (tmp_path / "file").read_text() == "mine"


def test_a_second_run_into_the_same_folder_is_refused_at_once(command, tmp_path, capsys):
    with locked_folder(tmp_path / "out"):
        assert command(tmp_path / "out", tmp_path / "cache") == 2
    said = "another run is writing to it; wait for it, or choose another --out\n"
    assert capsys.readouterr().err == f"error: {tmp_path / 'out'}: {said}"
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("kind", ["features", "adaptation"])
def test_a_damaged_cache_entry_is_named_and_fresh_gets_past_it(kept, command, tmp_path, capsys, kind):
    (entry,) = kept.rglob(f"{kind}-*.pt")
    entry.write_bytes(entry.read_bytes()[:-100])
    assert command(tmp_path / "out", kept) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {entry}: is cut short or damaged")
    assert error.count("\n") == 1
    assert not list((tmp_path / "out").iterdir())
    assert command(tmp_path / "out", kept, "--fresh") == 0


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["--video", "x.mp4"],
        ["--video", "x.mp4", "--grid", "3", "--queries", "q"],
        ["--video", "x.mp4", "--grid", "3", "--first-frames", "1"],
        ["--video", "x.mp4", "--grid", "3", "--out", ""],
        ["--video", "", "--grid", "3"],
    ],
)
def test_wrong_usage_exits_with_code_2(wrong, capsys):
    with pytest.raises(SystemExit) as caught:
        run_tracker.main(wrong)
    assert caught.value.code == 2


def test_ctrl_c_keeps_a_checkpoint_and_the_same_command_goes_on(
    finished, command, tmp_path, capsys, caplog, monkeypatch
):
    caplog.set_level(logging.INFO)
    sample, sampled = adaptation.loop.sample_pairs, []
    press_at = 8 + 7  # eight batches to measure on, then the seventh step

    def press_ctrl_c(*args, **kwargs):
        sampled.append(1)
        if len(sampled) == press_at:
            signal.raise_signal(signal.SIGINT)
        return sample(*args, **kwargs)

    monkeypatch.setattr(adaptation.loop, "sample_pairs", press_ctrl_c)
    assert command(tmp_path / "out", tmp_path / "cache") == 130
    assert "stopped after step 7 of 20; the same command resumes" in capsys.readouterr().err
    assert not (tmp_path / "out" / "tracks.npz").exists()
    assert len(list((tmp_path / "cache").rglob("checkpoint-*.pt"))) == 1

    sampled.clear()
    press_at = None
    assert command(tmp_path / "out", tmp_path / "cache") == 0
    assert len(sampled) == 8 + 13  # the seven steps are not taken again
    assert "adaptation: resuming from step 7 of 20" in caplog.text
    found = (tmp_path / "out" / "tracks.npz").read_bytes()
    assert found == (finished / "out" / "tracks.npz").read_bytes()
    assert not list((tmp_path / "cache").rglob("checkpoint-*.pt"))


def test_a_fresh_run_that_is_interrupted_is_gone_on_with_instead_of_the_older_result(
    kept, command, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO)

    def press_ctrl_c(*args, **kwargs):
        sampled.append(1)
        if len(sampled) == 8 + 3:  # eight batches to measure on, then the third step
            signal.raise_signal(signal.SIGINT)
        return sample(*args, **kwargs)

    sample, sampled = adaptation.loop.sample_pairs, []
    with monkeypatch.context() as patched:
        patched.setattr(adaptation.loop, "sample_pairs", press_ctrl_c)
        assert command(tmp_path / "out", kept, "--fresh") == 130
    assert command(tmp_path / "out", kept) == 0
    assert "adaptation: resuming from step 3 of 20" in caplog.text


@pytest.mark.parametrize(
    ("stage", "name"), [("extract_features", "features"), ("make_trajectories", "trajectories")]
)
def test_ctrl_c_in_a_stage_that_cannot_stop_between_steps_interrupts_at_once(
    command, tmp_path, monkeypatch, capsys, stage, name
):
    def press_ctrl_c(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the stage went on")

    monkeypatch.setattr(stages, stage, press_ctrl_c)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # test processes may ignore it
    try:
        assert command(tmp_path / "out", tmp_path / "cache") == 130
    finally:
        signal.signal(signal.SIGINT, before)
    said = f"interrupted in the stage {name}; the same command starts this stage over\n"
    assert capsys.readouterr().err.endswith(said)


def test_the_first_ctrl_c_asks_and_the_second_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with contextlib.suppress(KeyboardInterrupt), stop_on_interrupt() as stop:
        assert not stop()
        signal.raise_signal(signal.SIGINT)
        assert stop()
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the second Ctrl-C did not interrupt")
    assert signal.getsignal(signal.SIGINT) is before


FLAGS_OF_64_MB = """
import torch
from pathlib import Path
from t4g_tracker.commands.guarded import guarded

def flags(argv):
    memory = torch.empty(2**24)
    address = memory.data_ptr()
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if not first.endswith(":"):
            start, end = (int(bound, 16) for bound in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            print(line)
    return 0

guarded(flags, [])
"""


@pytest.mark.skipif(
    not (LARGE_PAGES / "enabled").exists() or "[never]" in (LARGE_PAGES / "enabled").read_text(),
    reason="this Linux gives no large pages",
)
@pytest.mark.parametrize(("setting", "asked"), [(None, True), ("0", False)])
def test_commands_ask_for_memory_in_large_pages_unless_told_not_to(monkeypatch, setting, asked):
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if setting is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", setting)
    done = subprocess.run([sys.executable, "-c", FLAGS_OF_64_MB], capture_output=True, text=True, check=True)
    # what Linux then gives depends on how broken up its memory is; "hg" is what proc(5) calls the request
    flags = done.stdout.split()
    assert flags[0] == "VmFlags:"
    assert ("hg" in flags) == asked
