"""``t4g video-metrics``: its figures on videos whose figures are known, and the tables of their means."""

from __future__ import annotations

import csv
import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import positions, waves
from safetensors.torch import load_file, save_file
from tiny_published import save_tiny_clip, save_tiny_dinov2
from tiny_videos import write_video
from torch.nn.functional import normalize
from torchvision.models import alexnet
from transformers import CLIPImageProcessor, CLIPModel

from t4g_tracker.__main__ import main
from t4g_tracker.commands.video_metrics import FrameBar
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import ConfigError, TrackerWarning, VideoError, WeightsError
from t4g_tracker.features import model_files
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.storage.files import file_digest
from t4g_tracker.video_metrics.clip import ClipEncoder
from t4g_tracker.video_metrics.listing import ListedVideo, list_videos, pick_baseline
from t4g_tracker.video_metrics.lpips import Lpips, backbone_file
from t4g_tracker.video_metrics.measuring import FIGURES, Measures, Meter, VideoScores
from t4g_tracker.video_metrics.motion import camera_motion, motion_figures, warp_error
from t4g_tracker.video_metrics.report import compare_models, mean_of

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A tiny CLIP, and PyTorch's cache with an AlexNet of random weights under the published name."""
    folder = tmp_path_factory.mktemp("weights")
    save_tiny_clip(folder / "tiny-clip")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("torch.hub.get_dir", lambda: str(folder / "torch"))
        file = backbone_file("alex")
        file.parent.mkdir(parents=True)
        torch.manual_seed(0)
        torch.save(alexnet(weights=None).state_dict(), file)
        yield folder


@pytest.fixture(scope="module")
def meter(places):
    return Meter(Measures(("clipsim", "lpips"), clip=str(places / "tiny-clip")), CPU)


@pytest.fixture(scope="module")
def video(slide):
    return slide(frame_count=4, size=(64, 96)).video


def figures(meter: Meter, video: Video) -> dict[str, float]:
    return meter.measure(video, ListedVideo(video.source)).figures


def with_frames(video: Video, frames: np.ndarray) -> Video:
    return replace(video, frames=np.ascontiguousarray(frames))


def test_a_still_video_is_as_good_as_these_measures_can_be(meter, video):
    still = with_frames(video, video.frames[[1, 1, 1]])
    found = figures(meter, still)
    assert found["CLIPSIM"] == pytest.approx(1, abs=1e-6)
    assert found["CLIP to first"] == pytest.approx(1, abs=1e-6)
    assert found["LPIPS"] == 0
    moving = figures(meter, video)
    assert moving["CLIPSIM"] < 1 - 1e-4
    assert moving["LPIPS"] > 1e-4


def test_a_video_played_backwards_has_the_same_figures_but_for_the_drift_from_its_first_frame(meter, video):
    there, back = figures(meter, video), figures(meter, with_frames(video, video.frames[::-1]))
    assert back["CLIPSIM"] == pytest.approx(there["CLIPSIM"], abs=1e-6)
    assert back["LPIPS"] == pytest.approx(there["LPIPS"], abs=1e-6)
    assert back["CLIP to first"] != pytest.approx(there["CLIP to first"], abs=1e-6)


def test_every_pair_of_neighbours_counts_once(meter, video):
    both = meter.measure(video, ListedVideo(video.source))
    assert {name: len(values) for name, values in both.pairs.items()} == dict.fromkeys(
        ("CLIPSIM", "CLIP to first", "LPIPS"), 3
    )
    for index in range(3):
        pair = meter.measure(with_frames(video, video.frames[index : index + 2]), ListedVideo("pair")).pairs
        assert pair["LPIPS"] == pytest.approx([both.pairs["LPIPS"][index]], abs=1e-6)
        assert pair["CLIPSIM"] == pytest.approx([both.pairs["CLIPSIM"][index]], abs=1e-6)
    assert both.pairs["CLIP to first"][0] == pytest.approx(both.pairs["CLIPSIM"][0])


def test_clipsim_is_of_the_projected_embeddings_of_the_whole_clip(meter, places, video):
    whole = CLIPModel.from_pretrained(places / "tiny-clip")
    pixels = CLIPImageProcessor.from_pretrained(places / "tiny-clip")(list(video.frames), return_tensors="pt")
    with torch.no_grad():
        pooled = whole.vision_model(pixels["pixel_values"]).pooler_output
        vectors = normalize(whole.visual_projection(pooled), dim=-1)
    wanted = (vectors[1:] * vectors[:-1]).sum(-1)
    found = meter.measure(video, ListedVideo(video.source)).pairs["CLIPSIM"]
    assert found == pytest.approx(wanted.tolist(), abs=1e-5)


def test_lpips_grows_with_noise(meter, video):
    rng = np.random.default_rng(0)
    noise = rng.normal(size=video.frames.shape)
    noisy = [
        with_frames(video, (video.frames[[0]] + level * noise).clip(0, 255).astype(np.uint8))
        for level in (0, 4, 12, 36)
    ]
    found = [figures(meter, each)["LPIPS"] for each in noisy]
    assert found == sorted(found)
    assert found[0] == 0 < found[1]
    assert found[3] > 2 * found[1]


def test_lpips_is_measured_on_values_from_minus_one_to_one(meter, video):
    images = torch.from_numpy(video.frames[:2] / 127.5 - 1).float().permute(0, 3, 1, 2)
    wanted = float(meter.lpips.metric.net(images[:1], images[1:]))
    assert figures(meter, with_frames(video, video.frames[:2]))["LPIPS"] == pytest.approx(wanted, rel=1e-5)


def test_frames_too_small_for_lpips_are_refused(meter, slide):
    with pytest.raises(VideoError, match=r"128x16.*leave lpips out"):
        meter.measure(slide(frame_count=2, size=(16, 128)).video, ListedVideo("small"))


OBJECT_AT, OBJECT_SPEED = torch.tensor([80.0, 60.0]), torch.tensor([0.0, -3.0])  # of its corner


def zooming_clip(affine: torch.Tensor, frames: int, size=(160, 224), object_px: float = 0.0) -> Video:
    """A texture seen by a camera that moves by ``affine`` (2, 3) a frame; in front, a square that rises."""
    square = torch.eye(3)
    square[:2] = affine
    shown = []
    for index in range(frames):
        undo = torch.linalg.inv(torch.linalg.matrix_power(square, index))
        place = positions(*size)
        picture = waves(place @ undo[:2, :2].T + undo[:2, 2], 3, 8.0, 60.0, seed=1)
        if object_px:
            own = place - OBJECT_AT - index * OBJECT_SPEED
            inside = ((own >= 0) & (own < object_px)).all(-1, keepdim=True)
            picture = torch.where(inside, waves(own, 3, 6.0, 30.0, seed=2), picture)
        shown.append((picture * 45 + 128).clamp(0, 255).round().to(torch.uint8))
    return Video(torch.stack(shown).numpy(), 24.0, "zooming", "zooming.mp4")


def affine_about_the_middle(scale: float, degrees: float, shift: tuple[float, float]) -> torch.Tensor:
    angle = math.radians(degrees)
    linear = scale * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = torch.tensor([111.5, 79.5])
    return torch.cat([linear, (middle - linear @ middle + torch.tensor(shift))[:, None]], 1)


@pytest.mark.parametrize("object_px", [0.0, 60.0])
def test_a_known_camera_motion_is_recovered_to_one_percent(object_px):
    affine = affine_about_the_middle(1.02, 1.0, (3.0, -2.0))
    clip = zooming_clip(affine, 2, object_px=object_px)
    estimator = FlowEstimator(FlowConfig(method="dis"), CPU)
    frames = torch.from_numpy(clip.frames).permute(0, 3, 1, 2)
    found = camera_motion(estimator.pairs(frames, [(0, 1)])[0].double())
    place = positions(*clip.size).double()
    moves, wanted = ((place @ a[:, :2].T + a[:, 2] - place) for a in (found, affine.double()))
    assert float((moves - wanted).norm(dim=-1).mean() / wanted.norm(dim=-1).mean()) < 0.01
    measured = {name: float(values) for name, values in motions(clip, estimator).items()}
    percent = 100 / math.hypot(*clip.size)
    length = percent * float(wanted.norm(dim=-1).mean())
    assert measured["camera"] == pytest.approx(length, rel=0.01)
    assert measured["zoom"] == pytest.approx(2.0, rel=0.01)
    assert measured["turn"] == pytest.approx(1.0, rel=0.01)
    square = ((place >= OBJECT_AT) & (place < OBJECT_AT + object_px)).all(-1)
    apart = (OBJECT_SPEED - wanted).norm(dim=-1) * square
    # flow is blurred about the square and at the frame's border
    assert measured["own motion"] == pytest.approx(percent * float(apart.mean()), abs=0.03 * length)


def motions(video: Video, estimator: FlowEstimator) -> dict[str, torch.Tensor]:
    return motion_figures(video, estimator, lambda done: None)


def test_warp_error_is_change_that_is_no_motion(slide):
    estimator = FlowEstimator(FlowConfig(method="dis"), CPU)
    clip = slide(frame_count=3, size=(96, 160), velocity=(3.0, 0.0)).video
    moving = motions(clip, estimator)["warp error"]
    assert float(moving.max()) < 1
    brighter = clip.frames.copy().clip(0, 200)
    brighter[2] += 51  # a fifth of the range
    moved = motions(with_frames(clip, brighter), estimator)["warp error"]
    assert float(moved[0]) < 1
    assert float(moved[1]) == pytest.approx(20, abs=1)


def test_pixels_that_leave_the_frame_have_no_warp_error():
    frame = torch.zeros(3, 32, 32, dtype=torch.uint8)
    frame[:, :, 16:] = 255
    away = torch.full((2, 32, 32), 100.0)
    assert warp_error(frame, 255 - frame, away) == 0
    away[:, 8:24, 4:8] = 0
    assert warp_error(frame, 255 - frame, away) > 70


def test_a_still_video_does_not_move(video):
    estimator = FlowEstimator(FlowConfig(method="dis"), CPU)
    found = motions(with_frames(video, video.frames[[0, 0]]), estimator)
    assert float(found["static"]) == 100
    assert all(float(found[name]) < 0.01 for name in ("motion", "camera", "own motion", "zoom", "turn"))


def test_a_sliding_texture_is_all_camera_whatever_the_video_s_size(slide):
    estimator = FlowEstimator(FlowConfig(method="dis"), CPU)
    clip = slide(frame_count=2, size=(96, 160), velocity=(3.0, 0.0)).video
    found = motions(clip, estimator)
    assert float(found["camera"]) == pytest.approx(100 * 3 / math.hypot(96, 160), rel=0.02)
    assert float(found["static"]) == 0
    larger = with_frames(clip, clip.frames.repeat(2, 1).repeat(2, 2))
    assert float(motions(larger, estimator)["camera"]) == pytest.approx(float(found["camera"]), rel=0.02)


def test_measures_whose_weights_are_missing_are_refused_by_name(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("offline")

    monkeypatch.setattr(model_files, "snapshot_download", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(WeightsError) as caught:
        Measures().check()
    said = str(caught.value)
    assert "clipsim cannot be measured, openai/clip-vit-base-patch32 is not on disk" in said
    assert f"lpips cannot be measured, {backbone_file('alex')} is not on disk" in said
    assert "run t4g weights get clip and run t4g weights get lpips-alex" in said
    assert said.endswith(", or choose --measures motion")
    assert Measures(("motion",)).check() is None
    with pytest.raises(WeightsError, match="weights get clip-large, or"):
        Measures(("clipsim",), clip="openai/clip-vit-large-patch14").check()
    with pytest.raises(WeightsError, match="give its folder by --clip, or choose --measures lpips motion"):
        Measures(("clipsim",), clip="someone/clip").check()


def test_another_model_is_no_clip_and_another_file_no_classifier(tmp_path, places, monkeypatch):
    folder = save_tiny_dinov2(tmp_path / "dinov2")
    shutil.copy(places / "tiny-clip" / "preprocessor_config.json", folder)
    with pytest.raises(WeightsError, match="is a dinov2, not a clip"):
        Measures(("clipsim",), clip=str(folder)).check()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    backbone_file("vgg").parent.mkdir()
    backbone_file("vgg").write_bytes(b"cut short")
    with pytest.raises(WeightsError, match=r"vgg16-397923af\.pth: cannot be loaded"):
        Lpips("vgg", CPU)


@pytest.mark.parametrize(
    ("name", "fits"), [("text_projection.weight", True), ("visual_projection.weight", False)]
)
def test_the_text_half_of_a_clip_may_be_missing_and_the_image_half_may_not(places, tmp_path, name, fits):
    folder = shutil.copytree(places / "tiny-clip", tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    del state[name]
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    if fits:
        assert ClipEncoder(folder, CPU).model.config.projection_dim == 12
    else:
        with pytest.raises(WeightsError, match=r"1 missing weights, the first is visual_projection\.weight"):
            ClipEncoder(folder, CPU)


GENERATED = {("cow", "svd", 1): 0.5, ("cow", "ours", 1): 0.7, ("cow", "svd", 2): 0.4, ("cow", "ours", 2): 0.8}
GENERATED |= {("dog", "svd", 1): 0.9, ("dog", "ours", 1): 0.8}


def scored(values: dict[tuple[str, str, int], float]) -> list[VideoScores]:
    return [
        VideoScores(
            ListedVideo(f"{image}-{model}-{seed}", model, image, seed), 3, (64, 96), {"x": [value, value]}
        )
        for (image, model, seed), value in values.items()
    ]


def test_a_row_is_the_mean_of_its_videos_and_differences_are_taken_pair_by_pair():
    found = compare_models(scored(GENERATED), ["x"], "svd")
    assert (found.videos, found.images) == (3, 2)
    assert found.means["svd"]["x"].mean == pytest.approx((0.5 + 0.4 + 0.9) / 3)
    assert found.means["ours"]["x"].mean == pytest.approx((0.7 + 0.8 + 0.8) / 3)
    assert list(found.differences) == ["ours"]
    difference = found.differences["ours"]["x"]
    assert difference.mean == pytest.approx((0.2 + 0.4 - 0.1) / 3)
    # About the mean of 1/6: of cow 1/30 + 7/30, of dog -8/30; root of 2 / 1 * (64 + 64) / 900, over 3 videos.
    assert difference.error == pytest.approx(math.sqrt(2 * 128) / 30 / 3)


def test_videos_that_another_model_lacks_do_not_count():
    more = {**GENERATED, ("owl", "svd", 7): 100.0}
    with pytest.warns(TrackerWarning, match="1 of 7 videos are left out"):
        found = compare_models(scored(more), ["x"], "svd")
    assert found == compare_models(scored(GENERATED), ["x"], "svd")
    apart = {("cow", "svd", 1): 1.0, ("cow", "ours", 2): 1.0}
    with pytest.raises(VideoError, match="no image and seed"):
        compare_models(scored(apart), ["x"], "svd")


@pytest.mark.parametrize(("images", "said"), [(1, "over its seeds"), (4, "of 4 images"), (5, "")])
def test_errors_over_few_images_come_with_a_caution(images, said):
    values = {(f"{image}", model, seed): 0.5 for image in range(images) for model in "ab" for seed in (1, 2)}
    found = compare_models(scored(values), ["x"], "a")
    assert found.images == images
    assert said in found.caution
    assert bool(found.caution) == bool(said)


def test_standard_errors_are_the_usual_ones_unless_videos_share_an_image():
    values = [1.0, 2.0, 4.0, 9.0]
    usual = np.std(values, ddof=1) / 2
    assert mean_of(values, "abcd").error == pytest.approx(usual)
    assert mean_of(values, "aaaa").error == pytest.approx(usual)
    assert mean_of([1.0, 1.0, 5.0, 5.0], "aabb").error == pytest.approx(2)  # that of the two images 1 and 5
    assert math.isnan(mean_of([1.0], "a").error)


@pytest.fixture(scope="module")
def generated(slide, tmp_path_factory):
    """A folder as ``t4g generate`` writes it: one model's videos move, the other's nearly stand still."""
    folder = tmp_path_factory.mktemp("generated")
    for model, speed in (("moving", 3.0), ("resting", 0.0)):
        for image, seed in (("cow", 1), ("cow", 12), ("dog", 1)):
            (folder / image / model).mkdir(parents=True, exist_ok=True)
            clip = slide(frame_count=3, size=(64, 96), velocity=(speed + 0.1 * seed, 0.0))
            write_video(folder / image / model / f"seed-{seed}.mp4", clip.video.frames)
    write_video(folder / "cow" / "side-by-side.mp4", clip.video.frames)
    (folder / "generation.json").write_text("{}")
    return folder


def test_a_generated_folder_is_listed_by_model_image_and_seed(generated, tmp_path):
    videos = list_videos([generated])
    assert [(video.model, video.image, video.seed) for video in videos] == [
        (model, image, seed)
        for model in ("moving", "resting")
        for image, seed in (("cow", 1), ("cow", 12), ("dog", 1))
    ]
    assert videos[1].path == generated / "cow" / "moving" / "seed-12.mp4"
    assert pick_baseline(videos, "") == "moving"
    other = shutil.copytree(generated, tmp_path / "other")
    (other / "generation.json").write_text('{"models": {"resting": {}, "unseen": {}, "moving": {}}}')
    assert [video.model for video in list_videos([other])] == ["resting"] * 3 + ["moving"] * 3
    with pytest.raises(ConfigError, match=r"--baseline restin: .* did you mean resting\?"):
        pick_baseline(videos, "restin")


def test_a_picture_s_folder_is_of_its_models_and_not_of_the_films_beside_them(
    generated, tmp_path, monkeypatch
):
    found = list_videos([generated / "cow"])
    assert [(video.model, video.image, video.seed) for video in found] == [
        (model, "cow", seed) for model in ("moving", "resting") for seed in (1, 12)
    ]
    folder = shutil.copytree(generated, tmp_path / "copy")
    shutil.copy(folder / "cow" / "moving" / "seed-1.mp4", folder / "cow" / "moving" / "tracks-seed-1.mp4")
    found = list_videos([folder / "cow" / "moving"])
    assert [(video.model, video.path.name) for video in found] == [
        ("moving", "seed-1.mp4"),
        ("moving", "seed-12.mp4"),
    ]
    monkeypatch.chdir(folder / "cow")
    assert [video.seed for video in list_videos([Path()])] == [1, 12, 1, 12]
    for model in ("moving", "resting"):
        shutil.rmtree(folder / "cow" / model)
    with pytest.raises(
        VideoError, match=r"^\.: holds no video IMAGE/MODEL/seed-N\.mp4 of .*copy; name files"
    ):
        list_videos([Path()])
    assert list_videos([Path("side-by-side.mp4")]) == [ListedVideo(Path("side-by-side.mp4"))]


def test_the_bar_counts_the_frames_of_all_videos_and_ends_full(meter, video):
    said = []
    bar = FrameBar(lambda done, total, name: said.append((done, total, name)), 2)
    for name in ("a", "b"):
        bar.begin(name)
        meter.measure(video, ListedVideo(video.source), bar.update)
    # 4 frames by each of two measures: CLIP takes them at once, LPIPS begins with a pair
    of_first = [(4, 16, "a"), (6, 16, "a"), (7, 16, "a"), (8, 16, "a")]
    assert said == [*of_first, *((done + 8, 16, "b") for done, _, _ in of_first)]


def test_the_bar_takes_videos_not_read_yet_for_as_long_as_the_others():
    said = []
    bar = FrameBar(lambda done, total, name: said.append((done, total)), 3)
    for frames in (10, 20, 3):
        bar.begin("one")
        bar.update(frames, frames)
    assert said == [(10, 30), (30, 45), (33, 33)]


def test_the_bar_ends_full_if_the_last_video_cannot_be_read():
    said = []
    bar = FrameBar(lambda done, total, name: said.append((done, total)), 2)
    bar.begin("good")
    bar.update(10, 10)
    bar.begin("bad")
    bar.finish()
    assert said == [(10, 20), (10, 10)]


def test_other_folders_hold_videos_or_frames(generated, save_frames, slide, tmp_path):
    clip = slide(frame_count=2, size=(64, 96))
    frames = save_frames(clip, tmp_path / "clips" / "a")
    save_frames(clip, tmp_path / "clips" / "b")
    assert list_videos([frames]) == [ListedVideo(frames)]
    assert [video.path.name for video in list_videos([tmp_path / "clips"])] == ["a", "b"]
    videos = generated / "cow" / "moving"
    assert [video.path.name for video in list_videos([videos])] == ["seed-1.mp4", "seed-12.mp4"]
    with pytest.raises(VideoError, match="same video"):
        list_videos([frames, tmp_path / "clips"])
    with pytest.raises(VideoError, match="measure them by two commands"):
        list_videos([generated, frames])
    (tmp_path / "empty").mkdir()
    with pytest.raises(VideoError, match="holds no video"):
        list_videos([tmp_path / "empty"])


def test_the_command_writes_the_table_of_models_in_all_its_forms(generated, places, tmp_path, capsys):
    out = tmp_path / "out"
    call = ["video-metrics", str(generated), "--clip", str(places / "tiny-clip"), "--baseline", "resting"]
    assert main([*call, "--out", str(out), "--device", "cpu", "--quiet"]) == 0
    printed, warned = capsys.readouterr()
    assert "of 2 images" in warned
    markdown = (out / "video-metrics.md").read_text()
    for text in (printed, markdown):
        assert "CLIPSIM (tiny-clip)" in text
        assert "LPIPS (alex)" in text
        assert "both reward standing still" in text
        assert "Differences from resting, paired by image and seed" in text
    assert "a standard error of so few is mostly too small" in markdown
    with (out / "video-metrics.csv").open() as file:
        videos = list(csv.DictReader(file))
    with (out / "models.csv").open() as file:
        models = {(row["model"], row["kind"]): row for row in csv.DictReader(file)}
    assert list(models) == [("moving", "mean"), ("resting", "mean"), ("moving", "difference from resting")]
    for name in ("CLIPSIM (tiny-clip)", "LPIPS (alex)", "camera [%]"):
        own = {
            model: [float(row[name]) for row in videos if row["model"] == model]
            for model in ("moving", "resting")
        }
        for model, values in own.items():
            assert float(models[model, "mean"][name]) == pytest.approx(np.mean(values), abs=1e-6)
        wanted = np.mean(own["moving"]) - np.mean(own["resting"])
        assert float(models["moving", "difference from resting"][name]) == pytest.approx(wanted, abs=2e-6)
    assert "zoom [%]" in videos[0]  # in the files alone
    assert "zoom" not in markdown
    difference = models["moving", "difference from resting"]
    assert (difference["videos"], difference["images"]) == ("3", "2")
    assert float(difference["LPIPS (alex)"]) > 0 > float(difference["CLIPSIM (tiny-clip)"])
    assert float(difference["camera [%]"]) == pytest.approx(100 * 3 / math.hypot(64, 96), rel=0.1)
    record = json.loads((out / "video-metrics.json").read_text())
    assert list(record["videos"][0]["figures"]) == [name for names in FIGURES.values() for name in names]
    assert len(record["videos"][0]["pairs"]["LPIPS"]) == 2
    assert record["videos"][0]["digest"] == file_digest(generated / "cow" / "moving" / "seed-1.mp4")
    assert record["measures"]["clip"] == str(places / "tiny-clip")


def test_a_damaged_video_is_named_and_the_others_are_measured(generated, tmp_path, capsys):
    good = shutil.copy(generated / "dog" / "moving" / "seed-1.mp4", tmp_path / "good.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    call = ["video-metrics", "--measures", "motion", "--out", str(tmp_path / "out"), "--quiet"]
    assert main([*call, str(good), str(tmp_path / "bad.mp4")]) == 1
    printed = capsys.readouterr().out
    assert f"failed: {tmp_path / 'bad.mp4'}: " in printed
    assert "CLIPSIM" not in printed
    assert main([*call, str(tmp_path / "bad.mp4")]) == 2
    assert capsys.readouterr().err.startswith("error: ")
