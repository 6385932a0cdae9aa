"""Classes of failures of generation: rules on figures made by hand, and videos that do fail."""

import json
import shutil
import warnings

import numpy as np
import pytest
from tiny_generated import write_record
from tiny_videos import write_video

from t4g_tracker.__main__ import main as t4g
from t4g_tracker.gallery.folders import find_results
from t4g_tracker.gallery.generated_failures import (
    DRIFT,
    FLICKER,
    KINDS,
    LOST,
    STILL,
    GeneratedEvidence,
    find_failure,
)
from t4g_tracker.gallery.worst_videos import shown_frames
from t4g_tracker.outputs.generated import RECORD, tracks_names, video_name
from t4g_tracker.visualize.encoding import write_picture

SIZE, FRAMES, JUMP = (96, 160), 8, 5
MODELS = ("good", "frozen", "flashing", "falling-apart")


def kinds(tmp_path, consistency=None, **pairs):
    named = {name.replace("_", " "): values for name, values in pairs.items()}
    evidence = GeneratedEvidence(tmp_path / "seed-1.mp4", "ours", "cow", 1, named, consistency)
    return {kind: found for kind in KINDS if (found := find_failure(evidence, kind)) is not None}


def test_what_was_not_measured_is_no_failure(tmp_path):
    assert kinds(tmp_path) == {}
    assert kinds(tmp_path, static=[], warp_error=[]) == {}


@pytest.mark.parametrize(("static", "found"), [([89.0, 90.9], False), ([81.0, 100.0], True)])
def test_a_video_stands_still_by_the_mean_of_its_frames(tmp_path, static, found):
    failures = kinds(tmp_path, static=static)
    assert failures.keys() == ({STILL} if found else set())
    if found:
        assert failures[STILL].text == "90.5 % of its pixels do not move from one frame to the next"
        assert failures[STILL].values == ("81 % still", "100 % still")


@pytest.mark.parametrize(
    ("errors", "frame", "text"),
    [
        (
            [1.0, 1.0, 1.0, 3.0, 1.0],
            4,
            "its colours change by 3.0 % in frame 4, beside what moves, and usually",
        ),
        (
            [5.0, 1.0, 5.0, 9.0, 5.0],
            None,
            "its colours change by 5.0 % or more in half of its frames",
        ),
        ([4.0, 5.1, 4.0, 5.2], None, "its colours change by 5.1 % or more in half of its frames"),
        ([1.0, 1.0, 1.0, 2.9, 1.0], None, None),  # too little
        ([1.6, 1.6, 1.6, 3.1, 1.6], None, None),  # not twice as much
        ([4.9, 4.9, 4.9, 5.1, 5.1], None, None),
    ],
)
def test_a_video_flickers_all_over_or_breaks_at_one_frame(tmp_path, errors, frame, text):
    failures = kinds(tmp_path, warp_error=errors)
    assert failures.keys() == ({FLICKER} if text else set())
    if text:
        assert failures[FLICKER].text.startswith(text)
        assert failures[FLICKER].frame == frame


@pytest.mark.parametrize(
    ("cosines", "found"),
    [
        ([0.9] * 6 + [0.74, 0.75], True),
        ([0.9] * 6 + [0.75, 0.75], False),
        ([0.1] * 6 + [0.9, 0.9], False),  # comes back
        ([0.7], True),
    ],
)
def test_a_video_drifts_by_its_last_quarter(tmp_path, cosines, found):
    assert (DRIFT in kinds(tmp_path, CLIP_to_first=cosines)) == found


@pytest.mark.parametrize(("share", "found"), [(0.49, True), (0.5, False)])
def test_points_are_lost_if_fewer_than_half_of_the_matches_lead_back(tmp_path, share, found):
    failures = kinds(tmp_path, share)
    assert (LOST in failures) == found
    if found:
        assert failures[LOST].text == "49.0% of the matches of its points lead back"


def test_a_filmstrip_shows_the_first_frame_and_those_around_a_jump():
    assert shown_frames(14, 7) == [0, 5, 6, 7, 8, 9]
    assert shown_frames(14, 1) == [0, 1, 2, 3]
    assert shown_frames(14, 13) == [0, 11, 12, 13]
    assert shown_frames(14, None) == [0, 3, 5, 8, 10, 13]
    assert shown_frames(2, None) == [0, 1]


def made_frames(slide, model):
    """A texture that slides by 3 px a frame, and what becomes of it."""
    frames = slide(frame_count=FRAMES, size=SIZE, velocity=(3.0, 1.0)).video.frames.copy()
    if model == "frozen":
        frames[:] = frames[0]
    elif model == "flashing":
        frames[JUMP] = 255 - frames[JUMP]
    elif model == "falling-apart":
        noise = np.random.default_rng(0).integers(-60, 61, frames.shape)
        frames = (frames + noise).clip(0, 255).astype(np.uint8)
    return frames


@pytest.fixture(scope="module")
def place(slide, tmp_path_factory):
    """Videos of four models, measured, and tracked: those that fall apart have lost their points."""
    folder = tmp_path_factory.mktemp("failures")
    runs = folder / "runs"
    for model in MODELS:
        (runs / "sea" / model).mkdir(parents=True)
        video = video_name("sea", model, 1)
        for name in (video, tracks_names(video)[1]):
            write_video(runs / name, made_frames(slide, model), rate=7, coder={"crf": "10"})
    write_picture(runs / "sea" / "input.png", made_frames(slide, "good")[0])
    write_record(runs, {model: {} for model in MODELS})
    record = json.loads((runs / RECORD).read_text())
    for model, share in zip(MODELS, (0.9, 1.0, 0.8, 0.2), strict=True):
        record["videos"][video_name("sea", model, 1)]["consistency"] = share
    (runs / RECORD).write_text(json.dumps(record))
    measure = ["video-metrics", str(runs), "--measures", "motion", "--device", "cpu", "--quiet"]
    assert t4g([*measure, "--out", str(folder / "measured")]) == 0
    return folder


def gallery(folder, out, *options):
    """Sections of failures of generation by class, of a gallery of folders."""
    assert t4g(["gallery", *map(str, folder), "--out", str(out), *options]) == 0
    return {
        section["kind"]: section
        for section in json.loads((out / "gallery.json").read_text())["generated_failures"]
    }


def test_videos_that_fail_are_found_and_those_that_do_not_are_not(place, tmp_path, capsys):
    found = gallery([place], tmp_path / "site")
    assert {kind: [one["video"] for one in section["found"]] for kind, section in found.items()} == {
        STILL: ["frozen, sea, seed 1"],
        FLICKER: ["flashing, sea, seed 1", "falling-apart, sea, seed 1"],
        DRIFT: [],
        LOST: ["falling-apart, sea, seed 1"],
    }
    assert found[FLICKER]["found"][0]["frame"] in (JUMP, JUMP + 1)  # to the flash, or back
    assert "<td>good</td><td>0</td><td>1</td>" in found[STILL]["counts"]
    assert "4 of 4 videos were not looked at" in found[DRIFT]["note"]
    assert found[STILL]["note"] == ""
    told = capsys.readouterr().err
    assert (
        f"some of 4 videos are not searched for 'drifts away from its picture' (4); run t4g video-metrics "
        f"{place / 'runs'} --measures motion clipsim and" in told
    )
    page = (tmp_path / "site" / "index.html").read_text()
    assert str(place) not in page
    assert page.count("Not looked for.") == 1  # drift, without CLIP
    assert "None found." not in page
    for section in found.values():
        for one in section["found"]:
            assert (tmp_path / "site" / one["picture"]).is_file()
            assert (tmp_path / "site" / one["film"]).is_file()


def test_one_command_measures_all_that_is_missing_in_a_folder(place, tmp_path, capsys):
    runs = tmp_path / "my runs"
    runs.symlink_to(place / "runs")
    gallery([runs], tmp_path / "site")
    told = capsys.readouterr().err
    assert told.count("not searched") == 1
    assert "for 'stands still' (4), 'flickers or falls apart' (4), 'drifts" in told
    assert told.count(f"t4g video-metrics '{runs}' --measures motion clipsim") == 1


def test_what_is_not_measured_or_has_changed_since_says_which_command_to_run(place, tmp_path):
    runs = tmp_path / "runs"
    runs.symlink_to(place / "runs")
    found = gallery([runs], tmp_path / "site")
    assert "4 of 4 videos were not looked at" in found[STILL]["note"]
    assert "run t4g video-metrics FOLDER --measures motion" in found[STILL]["note"]
    assert len(found[LOST]["found"]) == 1
    record = json.loads((place / "measured" / "video-metrics.json").read_text())
    record["videos"][0]["digest"] = "of another file"
    (tmp_path / "measured").mkdir()
    (tmp_path / "measured" / "video-metrics.json").write_text(json.dumps(record))
    found = gallery([runs, tmp_path / "measured"], tmp_path / "site")
    assert "1 of 4 videos were not looked at" in found[STILL]["note"]


def test_of_two_measurements_that_of_more_frames_counts(place, tmp_path):
    record = json.loads((place / "measured" / "video-metrics.json").read_text())
    for video in record["videos"]:
        video["pairs"] = {name: values[:1] for name, values in video["pairs"].items()}
    for out in ("a", "z"):  # before and after the whole one
        (tmp_path / out).mkdir()
        (tmp_path / out / "video-metrics.json").write_text(json.dumps(record))
    (tmp_path / "summary.json").write_text("of another program")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*summary")
        found = find_results([tmp_path / "a", place, tmp_path / "z", tmp_path])
    assert {len(values) for pairs in found.measured.values() for values in pairs.values()} == {FRAMES - 1}


def test_no_failures_are_looked_for_if_none_are_wanted(place, tmp_path):
    assert gallery([place], tmp_path / "site", "--failures", "0") == {}


def test_damaged_records_of_measures_are_told_and_damaged_films_have_no_picture(place, tmp_path, capsys):
    for number, text in enumerate(("no json", "[1]", '{"videos": [1, {"digest": "x", "pairs": 3}]}')):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "video-metrics.json").write_text(text)
    runs = shutil.copytree(place / "runs", tmp_path / "runs")
    (runs / tracks_names(video_name("sea", "falling-apart", 1))[1]).write_bytes(b"no film")
    found = gallery([tmp_path], tmp_path / "site")
    assert found[LOST]["found"][0]["picture"] == ""
    assert "4 of 4" in found[STILL]["note"]
    told = capsys.readouterr().err
    assert "0/video-metrics.json: is left out, it cannot be read" in told
    assert "(it is shown without a picture)" in told
