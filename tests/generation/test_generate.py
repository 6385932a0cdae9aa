"""The command: its files, what it keeps and what it makes anew, and what it refuses before any work."""

from __future__ import annotations

import gc
import json
import logging
import shutil
import weakref

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_models import NUM_FRAMES, WIDTHS, save_tiny_svd, save_tiny_track4gen
from tiny_published import save_tiny_mini

from t4g_tracker.bundled import GENERATING_MINI
from t4g_tracker.commands.generate import main
from t4g_tracker.commands.generate_arguments import parse_generate
from t4g_tracker.features.feedback import Feedback
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.generation import run as runs
from t4g_tracker.generation.models import Model, find_models
from t4g_tracker.generation.outputs import side_by_side
from t4g_tracker.generation.settings import GenerationConfig, ModelChoice
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.track_files import read_tracks_npz

SMALL = ["--size", "64", "128", "--steps", "2", "--guidance", "1", "1", "--device", "cpu", "--quiet"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Models a and b with the same weights but for the refiner, c with others, and two pictures."""
    folder = tmp_path_factory.mktemp("generate")
    save_tiny_track4gen(folder / "a")
    shutil.copytree(folder / "a", folder / "b")
    torch.manual_seed(9)
    Refiner(channels=WIDTHS[1]).save_pretrained(folder / "b" / "refiner")
    save_tiny_svd(folder / "c", seed=1)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 160, 3), dtype=np.uint8)
    (folder / "pictures").mkdir()
    for name, picture in zip(("cow", "dog"), pictures, strict=True):
        Image.fromarray(picture).save(folder / "pictures" / f"{name}.png")
    return folder


def generate(place, out, *more, models=("a",), seeds=("1",), picture="pictures/cow.png"):
    given = [f"{name}={place / name}" for name in models]
    where = ["--image", f"{place / picture}", "--out", f"{out}"]
    return main([*where, "--models", *given, "--seeds", *seeds, *SMALL, *more])


@pytest.fixture(scope="module")
def made(place, tmp_path_factory):
    """Three models, one seed, one picture, with tracks."""
    out = tmp_path_factory.mktemp("out")
    mask = np.zeros((96, 160), np.uint8)
    mask[40:60, 40:120] = 255
    Image.fromarray(mask).save(place / "mask.png")
    more = ["--embed-tracks", "--grid", "4", "--mask", str(place / "mask.png"), "--save-frames"]
    assert generate(place, out, *more, models=("a", "b", "c")) == 0
    return out


@pytest.fixture
def counted(monkeypatch):
    """Seeds of the videos that are generated from here on."""
    calls, real = [], runs._make

    def note(video, *more):
        calls.append(video.name)
        return real(video, *more)

    monkeypatch.setattr(runs, "_make", note)
    return calls


def record(out):
    return json.loads((out / "generation.json").read_text())


def test_a_video_has_the_frames_size_and_rate_asked_for(made):
    video = read_video(made / "cow" / "a" / "seed-1.mp4")
    assert video.frames.shape == (NUM_FRAMES, 64, 128, 3)
    assert video.fps == 7
    saved = [np.asarray(Image.open(made / f"cow/a/frames-seed-1/{n:03d}.png")) for n in range(NUM_FRAMES)]
    assert np.abs(np.stack(saved).astype(int) - video.frames).mean() < 12  # the film is compressed
    assert not (made / "cow/a/frames-seed-1" / f"{NUM_FRAMES:03d}.png").exists()


def test_same_weights_make_the_same_video_and_the_refiner_changes_tracks_alone(made):
    frames = {
        name: [(made / f"cow/{name}/frames-seed-1/{n:03d}.png").read_bytes() for n in range(NUM_FRAMES)]
        for name in "abc"
    }
    assert frames["a"] == frames["b"] != frames["c"]
    tracks = {name: read_tracks_npz(made / f"cow/{name}/tracks-seed-1.npz")[0].xy for name in "ab"}
    assert not torch.equal(tracks["a"], tracks["b"])


def test_points_lie_in_the_part_of_the_mask_that_the_frames_show(made):
    tracks, queries, size, fps = read_tracks_npz(made / "cow" / "c" / "tracks-seed-1.npz")
    assert (size, fps) == ((64, 128), 7)
    assert not queries.frame.any()
    # 160x96 is cut to rows 8 to 88, and made smaller by 0.8
    x, y = queries.xy.unbind(1)
    assert ((x >= 31.5) & (x <= 95.5)).all()
    assert ((y >= 25.0) & (y <= 41.5)).all()
    assert len(queries) == 4
    assert torch.equal(tracks.xy[:, 0], queries.xy)
    assert read_video(made / "cow" / "c" / "tracks-seed-1.mp4").frame_count == NUM_FRAMES


def test_the_record_says_how_each_video_was_made(made):
    found = record(made)
    assert found["finished"]
    assert found["same_noise"] == [["a", "b", "c"]]
    assert [found["models"][name]["refiner"] for name in "abc"] == [True, True, False]
    assert [found["models"][name]["feedback"] for name in "abc"] == [False, False, False]
    assert found["models"]["a"]["weights"] != found["models"]["b"]["weights"]
    video = found["videos"]["cow/a/seed-1.mp4"]
    assert video["last_sigma"] == pytest.approx(0.002)
    assert video["extraction_sigma"] == 0.05
    assert 0 <= video["consistency"] <= 1
    assert video["consistency"] == found["models"]["a"]["consistency"]
    assert video["seconds"] > 0
    assert video["settings"]["steps"] == 2
    assert found["pictures"]["cow"]["cut_from"] == [96, 160]
    assert found["versions"]["diffusers"]


def test_films_side_by_side_show_the_picture_first_and_then_each_model(made):
    film = read_video(made / "cow" / "side-by-side-seed-1.mp4").frames
    alone = list(side_by_side(np.asarray(Image.open(made / "cow" / "input.png")), {}))
    assert len(film) == NUM_FRAMES
    assert len(alone) == 1
    assert read_video(made / "cow" / "side-by-side-tracks-seed-1.mp4").frames.shape == film.shape


def test_what_is_shorter_holds_its_last_frame():
    picture = np.full((64, 128, 3), 50, np.uint8)
    short = np.stack([np.full_like(picture, value) for value in (100, 200)])
    long = np.stack([np.full_like(picture, value) for value in (10, 20, 30)])
    films = list(side_by_side(picture, {"short": short, "long": long}))
    assert len(films) == 3
    values = 10, 20, 30, 50, 100, 200
    shown = [{value for value in values if (film == value).sum() > 3000} for film in films]
    assert shown == [{50, 100, 10}, {50, 200, 20}, {50, 200, 30}]


def test_the_same_command_makes_nothing_again_and_changed_settings_make_all_anew(
    place, tmp_path, counted, caplog
):
    assert generate(place, tmp_path) == 0
    before = (tmp_path / "cow/a/seed-1.mp4").read_bytes()
    assert generate(place, tmp_path) == 0
    assert counted == ["cow/a/seed-1.mp4"]
    with caplog.at_level(logging.INFO):
        assert generate(place, tmp_path, "--motion-bucket", "200") == 0
    assert "it had motion_bucket_id=127 and not 200" in caplog.text
    assert len(counted) == 2
    assert (tmp_path / "cow/a/seed-1.mp4").read_bytes() != before
    assert generate(place, tmp_path) == 0  # as at first
    assert (tmp_path / "cow/a/seed-1.mp4").read_bytes() == before


def test_films_follow_the_order_of_the_models(place, tmp_path, counted):
    film = "cow/side-by-side-seed-1.mp4"
    assert generate(place, tmp_path, models=("a", "c")) == 0
    before = (tmp_path / film).read_bytes()
    assert generate(place, tmp_path, models=("c", "a")) == 0
    assert len(counted) == 2
    assert record(tmp_path)["side_by_side"][film]["models"] == ["c", "a"]
    assert (tmp_path / film).read_bytes() != before


def test_whatever_makes_a_video_anew_is_told(place, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    video = "cow/a/seed-1.mp4"
    assert generate(place, tmp_path) == 0
    assert "made anew" not in caplog.text
    assert generate(place, tmp_path, "--save-frames") == 0
    assert f"{video} is made anew: it had no cow/a/frames-seed-1/000.png, it had no" in caplog.text
    (tmp_path / video).write_bytes(b"cut short")
    (tmp_path / "cow/a/frames-seed-1/001.png").unlink()
    assert generate(place, tmp_path, "--save-frames") == 0
    assert f"{video} is made anew: {video} has changed, cow/a/frames-seed-1/001.png is missing" in caplog.text


def test_only_what_is_missing_or_damaged_is_made(place, tmp_path, counted):
    assert generate(place, tmp_path, seeds=("1", "2"), picture="pictures") == 0
    assert len(counted) == 4
    counted.clear()
    (tmp_path / "cow/a/seed-2.mp4").unlink()
    (tmp_path / "dog/a/seed-1.mp4").write_bytes(b"cut short")
    side_by_side_before = (tmp_path / "cow/side-by-side-seed-1.mp4").stat().st_mtime_ns
    assert generate(place, tmp_path, seeds=("1", "2"), picture="pictures") == 0
    assert counted == ["cow/a/seed-2.mp4", "dog/a/seed-1.mp4"]
    assert (tmp_path / "cow/side-by-side-seed-1.mp4").stat().st_mtime_ns == side_by_side_before
    counted.clear()
    assert generate(place, tmp_path, "--embed-tracks", "--grid", "3", seeds=("1",)) == 0
    assert counted == ["cow/a/seed-1.mp4"]
    assert generate(place, tmp_path, seeds=("1",)) == 0  # the tracks are no reason to make it anew
    assert len(counted) == 1


def test_files_that_an_earlier_video_had_and_this_has_not_are_removed(place, tmp_path):
    assert generate(place, tmp_path, "--embed-tracks", "--grid", "3", "--save-frames") == 0
    assert (tmp_path / "cow/side-by-side-tracks-seed-1.mp4").exists()
    assert generate(place, tmp_path, "--save-frames", "--frames", "2") == 0
    left = {path.relative_to(tmp_path / "cow").as_posix() for path in (tmp_path / "cow").rglob("*.*")}
    frames = {f"a/frames-seed-1/00{n}.png" for n in (0, 1)}
    assert left == {"input.png", "side-by-side-seed-1.mp4", "a/seed-1.mp4", *frames}


def test_an_interrupted_run_says_what_is_there_and_goes_on(place, tmp_path, monkeypatch, capsys):
    real, calls = runs.generate, []

    def interrupted(*arguments):
        calls.append(None)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(runs, "generate", interrupted)
    assert generate(place, tmp_path, seeds=("1", "2")) == 130
    assert "1 of 2 videos are there; the same command makes the others" in capsys.readouterr().err
    assert not record(tmp_path)["finished"]
    assert generate(place, tmp_path, seeds=("1", "2")) == 0
    assert len(calls) == 3
    assert record(tmp_path)["finished"]


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory."), MemoryError()])
def test_a_lack_of_memory_is_one_line(place, tmp_path, monkeypatch, capsys, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(runs, "generate", fail)
    assert generate(place, tmp_path) == 2
    assert "--models a: memory ran out" in capsys.readouterr().err


def test_a_lack_of_memory_for_the_model_itself_is_one_line(place, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Model, "load", fail)
    assert generate(place, tmp_path, "--float32") == 2
    said = capsys.readouterr().err
    assert "--models a: memory ran out" in said
    assert "leave --float32 out" in said


def test_one_model_is_in_memory_at_a_time(place, tmp_path, monkeypatch):
    real, loaded, alive = Model.load, [], []

    def watched(self, *more):
        gc.collect()
        alive.append(sum(unet() is not None for unet in loaded))
        pipeline, refiner = real(self, *more)
        loaded.append(weakref.ref(pipeline.unet))
        return pipeline, refiner

    monkeypatch.setattr(Model, "load", watched)
    assert generate(place, tmp_path, models=("a", "b", "c")) == 0
    assert alive == [0, 0, 0]


def test_feedback_changes_the_video_and_the_record_names_it(place, tmp_path):
    with_feedback = shutil.copytree(place / "a", tmp_path / "models" / "a")
    feedback = Feedback(channels=WIDTHS[1])
    torch.nn.init.constant_(feedback.convolution.weight, 0.1)
    feedback.save_pretrained(with_feedback / "feedback")
    assert generate(place, tmp_path / "plain") == 0
    where = ["--image", str(place / "pictures/cow.png"), "--out", str(tmp_path / "out")]
    assert main([*where, "--models", f"a={with_feedback}", "--seeds", "1", *SMALL]) == 0
    assert record(tmp_path / "out")["models"]["a"]["feedback"]
    videos = [(tmp_path / out / "cow/a/seed-1.mp4").read_bytes() for out in ("plain", "out")]
    assert videos[0] != videos[1]


def test_models_with_other_latents_start_from_other_noise_and_this_is_told(place, tmp_path, capsys):
    if not (place / "mini").exists():
        save_tiny_mini(place / "mini")
    assert generate(place, tmp_path, models=("a", "mini", "c")) == 0
    assert record(tmp_path)["same_noise"] == [["a", "c"], ["mini"]]
    assert "start from the same noise: a, c; mini" in capsys.readouterr().out


def test_without_a_choice_the_bundled_mini_generates_and_its_latents_are_read_linearly():
    request = parse_generate(["--image", "x.png"])
    (model,) = find_models(request.models, GenerationConfig(), "auto")
    assert model.folder == GENERATING_MINI
    assert model.noise_shape(GenerationConfig()) == (4, 16, 40, 72)
    assert model.refined
    assert model.linear
    assert not find_models(request.models, GenerationConfig(), "own")[0].linear
    features = parse_generate(["--image", "x.png", "--models", "track4gen-mini"]).models
    assert find_models(features, GenerationConfig(), "auto")[0].linear


def test_half_precision_stays_near_single(place, tmp_path, cpu_has_bfloat16):
    assert generate(place, tmp_path / "half", "--embed-tracks", "--grid", "4") == 0
    assert generate(place, tmp_path / "single", "--float32") == 0
    assert [record(tmp_path / name)["precision"] for name in ("half", "single")] == ["bfloat16", "float32"]
    half, single = (read_video(tmp_path / name / "cow/a/seed-1.mp4").frames for name in ("half", "single"))
    assert 0 < np.abs(half.astype(int) - single).mean() < 12


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_a_gpu_makes_the_video_of_the_cpu(place, tmp_path):
    assert generate(place, tmp_path / "gpu", "--embed-tracks", "--grid", "4", "--device", "cuda") == 0
    assert generate(place, tmp_path / "cpu", "--float32") == 0
    assert record(tmp_path / "gpu")["precision"] == "float16"
    gpu, cpu = (read_video(tmp_path / name / "cow/a/seed-1.mp4").frames for name in ("gpu", "cpu"))
    assert np.abs(gpu.astype(int) - cpu).mean() < 12


def test_names_of_models(place):
    request = parse_generate(["--image", "x", "--models", "owner/name", f"b={place / 'b'}", "track4gen-mini"])
    assert request.models == [
        ModelChoice("name", "owner/name"),
        ModelChoice("b", str(place / "b")),
        ModelChoice("track4gen-mini", "track4gen-mini"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "{place}/none.png"], "none.png: no such file or folder"),
        (["--image", "{place}/broken.png"], "broken.png: is not an image that can be read"),
        (["--image", "{place}/empty"], "empty: has no images"),
        (["--image", "{place}/pictures", "{place}/pictures/cow.png"], "has the name of"),
        (["--models", "x={place}/none"], "--models x: {place}/none: no such folder"),
        (["--models", "x={place}/pictures"], "--models x: {place}/pictures/model_index.json is missing"),
        (["--models", "nothing-such"], "--models nothing-such: nothing-such: no such folder"),
        (["--frames", "5"], "--frames 5: a was trained on 4 at once"),
        (["--embed-tracks", "--mask", "{place}/pictures/none.png"], "none.png: no such file"),
        (["--embed-tracks", "--mask", "{place}/small.png"], "is 8x8 pixels"),
        (["--embed-tracks", "--mask", "{place}/edge.png"], "the part in the frames"),
        (["--device", "cuda:99"], "device cuda:99"),
    ],
)
def test_what_cannot_be_used_is_refused_before_any_work(
    place, tmp_path, capsys, monkeypatch, arguments, message
):
    (place / "broken.png").write_bytes(b"no picture")
    (place / "empty").mkdir(exist_ok=True)
    Image.fromarray(np.full((8, 8), 255, np.uint8)).save(place / "small.png")
    edge = np.zeros((96, 160), np.uint8)
    edge[:4] = 255  # cut off
    Image.fromarray(edge).save(place / "edge.png")
    monkeypatch.setattr(Model, "load", lambda *_: pytest.fail("a model was loaded"))
    given = ["--image", f"{place}/pictures/cow.png", "--models", f"a={place}/a", *SMALL[:-3], "--quiet"]
    more = [argument.replace("{place}", str(place)) for argument in arguments]
    if more[0] == "--image":
        given = given[2:]
    assert main([*given, *more, "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert message.replace("{place}", str(place)) in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "100", "200"], "the size must be two multiples of 64, got 100 200"),
        (["--frames", "1"], "frames must be at least 2"),
        (["--guidance", "3", "1"], "must be at most the second, got 3 1"),
        (["--guidance", "1", "nan"], "--guidance: must be a number from 0 to 100, got nan"),
        (["--steps", "0"], "--steps: must be a whole number from 1 to 1000"),
        (["--seeds", "1", "1"], "--seeds: one is given twice"),
        (["--models", "x=a", "X=b"], "--models: x is named twice"),
        (["--models", "a/b=c"], "--models: must be NAME=MODEL"),
        (["--grid", "4"], "--grid needs --embed-tracks"),
        (["--mask", "m.png"], "--mask needs --embed-tracks"),
        (["--embed-tracks", "--mask-object", "2"], "--mask-object goes with a mask"),
    ],
)
def test_arguments_that_make_no_sense_are_one_line(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["--image", "x.png", *arguments])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
