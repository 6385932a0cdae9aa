"""Track4Gen's objective, its data, and what its training leaves for the extractor."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, WIDTHS, save_tiny_svd, tiny_svd

from t4g_tracker.__main__ import main
from t4g_tracker.config import read_settings
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import ConfigError, DatasetError, TrackerError, WeightsError
from t4g_tracker.features.extractor import extract_features
from t4g_tracker.features.refiner import Refiner
from t4g_tracker.features.settings import DiffusionConfig, FeaturesConfig
from t4g_tracker.files import atomic_write
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.track4gen import real_clips
from t4g_tracker.training.track4gen.autoencoder import latent_scale, mini_autoencoder
from t4g_tracker.training.track4gen.correspondence import correspondence_loss, draw_pairs
from t4g_tracker.training.track4gen.dataset import ClipBatch, View, collate_clips, look
from t4g_tracker.training.track4gen.denoising import best_answer, denoised, denoising_loss, network_time
from t4g_tracker.training.track4gen.mini import svd_scheduler
from t4g_tracker.training.track4gen.model_folder import extractor_settings, load_autoencoder, starting_point
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective
from t4g_tracker.training.track4gen.real_clips import RealClips, flow_clip
from t4g_tracker.training.track4gen.settings import ClipsConfig
from t4g_tracker.visualize.files import write_video


def brightness_at(clip: TrainingClip) -> torch.Tensor:
    """Brightness of the pixel nearest to every visible point."""
    frame = torch.arange(clip.xy.shape[1]).expand(clip.xy.shape[:2])[clip.visibility]
    x, y = clip.xy[clip.visibility].round().long().unbind(-1)
    return clip.frames[frame, :, y, x].float().amax(1)


@pytest.mark.parametrize("seed", range(6))
def test_a_view_moves_points_with_their_pixels(seed):
    view = View(segments=2, frames=3, size=(64, 96), turn=0.5, zoom=1.4)
    seen = look(dots(), view, torch.Generator().manual_seed(seed))
    assert seen.frames.shape == (6, 3, 64, 96)
    assert seen.visibility.any()
    assert (brightness_at(seen) > 60).float().mean() > 0.95


def test_points_outside_a_view_are_not_visible():
    seen = look(dots(), View(segments=1, frames=2, size=(32, 32)), torch.Generator().manual_seed(0))
    inside = ((seen.xy >= 0) & (seen.xy <= 31)).all(-1)
    assert torch.equal(seen.visibility, inside)
    assert not inside.all()


def test_denoised_agrees_with_the_published_scheduler():
    scheduler = svd_scheduler()
    scheduler.set_timesteps(sigmas=[2.5, 0.0])
    generator = torch.Generator().manual_seed(0)
    noisy, answer = torch.randn(2, 1, 3, 4, 5, 5, generator=generator)
    expected = scheduler.step(answer, scheduler.timesteps[0], noisy).pred_original_sample
    found = denoised(noisy, answer, torch.tensor([2.5]))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert float(network_time(torch.tensor(2.5))) == pytest.approx(float(scheduler.timesteps[0]), abs=1e-4)


def test_an_answer_of_zero_costs_about_one_at_any_noise():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 2, 4, 16, 16, generator=generator)
    sigma = torch.tensor([0.1, 1.0, 30.0])
    noisy = latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn(latents.shape, generator=generator)
    loss = denoising_loss(denoised(noisy, torch.zeros_like(noisy), sigma), latents, sigma)
    torch.testing.assert_close(loss, torch.ones(3), atol=0.1, rtol=0)


def test_pairs_join_frames_that_both_see_the_point():
    clip = dots()
    visibility = torch.rand(clip.visibility.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    batch = collate_clips([TrainingClip(clip.frames, clip.xy, visibility)] * 2)
    pairs = draw_pairs(batch, 16)
    frames = clip.xy.shape[1]
    for row in pairs.known.nonzero().squeeze(1).tolist():
        target = row // 16
        source, there = int(pairs.source[row]) % frames, target % frames
        point = int((clip.xy[:, source] - pairs.source_xy[row]).norm(dim=-1).argmin())
        assert int(pairs.source[row]) // frames == target // frames  # the same clip
        assert source != there
        assert visibility[point, source]
        assert visibility[point, there]
        assert torch.equal(clip.xy[point, there], pairs.target_xy[row])
    assert pairs.known.any()


def test_features_that_name_their_place_have_a_lower_loss_than_noise():
    clip = dots()
    batch = collate_clips([clip])
    pairs = draw_pairs(batch, 8)
    blurred = torch.nn.functional.avg_pool2d(clip.frames.float(), 8)
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    found = correspondence_loss(blurred, pairs, (96, 128), 0.05).mean()
    lost = correspondence_loss(noise, pairs, (96, 128), 0.05).mean()
    assert found < 0.5 * lost


def test_the_loss_is_computed_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    batch = collate_clips([dots(4, (64, 64))])
    torch.manual_seed(0)
    pairs = draw_pairs(batch, 8)
    features = torch.randn(4, 16, 8, 8, generator=generator)
    plain = correspondence_loss(features, pairs, (64, 64), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(correspondence_loss(features, pairs, (64, 64), 0.05), plain)


def test_pairs_that_are_not_known_cost_nothing():
    clip = dots()
    batch = ClipBatch(clip.frames[None], clip.xy[None], torch.zeros_like(clip.visibility)[None])
    pairs = draw_pairs(batch, 4)
    assert not pairs.known.any()
    assert float(correspondence_loss(torch.randn(6, 3, 12, 16), pairs, (96, 128), 0.05).sum()) == 0


@pytest.mark.parametrize(
    ("config", "trained"),
    [
        (ObjectiveConfig(), {"unet", "refiner"}),
        (ObjectiveConfig(refiner=False), {"unet"}),
        (ObjectiveConfig(correspondence=0), {"unet"}),
        (ObjectiveConfig(train_image_encoder=True), {"unet", "refiner", "image_encoder"}),
    ],
)
def test_each_variant_trains_its_parts_and_no_others(config, trained):
    pipeline = tiny_svd()
    objective = Track4GenObjective(pipeline, Refiner(WIDTHS[1]), config, NUM_FRAMES)
    losses = objective(collate_clips([dots(2 * NUM_FRAMES, (64, 64))]))
    losses["loss"].backward()
    moved = {name.split(".")[0] for name, weight in objective.named_parameters() if weight.grad is not None}
    assert moved == trained
    assert all(weight.grad is None for weight in pipeline.vae.parameters())
    expected = losses["denoising"]
    if config.correspondence:
        expected = expected + config.correspondence * losses["correspondence"]
    torch.testing.assert_close(losses["loss"], expected)


def test_an_image_that_is_dropped_is_not_told_in_any_way():
    """With ``keep`` 0 the first frame changes neither of what the UNet is told, with 1 it does."""
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), ObjectiveConfig(), NUM_FRAMES).eval()
    frames = torch.stack([torch.zeros(NUM_FRAMES, 3, 64, 64), torch.ones(NUM_FRAMES, 3, 64, 64)])
    noisy = torch.randn(1, NUM_FRAMES, 4, 8, 8).expand(2, -1, -1, -1, -1)
    with torch.no_grad():
        for keep, alike in ((0.0, True), (1.0, False)):
            answer, _ = objective.run_unet(frames, noisy, torch.ones(2), torch.full((2,), keep))
            assert torch.allclose(answer[0], answer[1], atol=1e-5) == alike


def test_noise_is_that_of_the_extractor_in_the_share_that_is_asked_for():
    config = ObjectiveConfig(low_noise_share=0.3)
    objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
    torch.manual_seed(0)
    sigma = objective._draw_sigma(4000)
    low = sigma == config.low_noise_sigma
    assert low.float().mean() == pytest.approx(0.3, abs=0.03)
    assert sigma[~low].log().mean() == pytest.approx(config.sigma_mean, abs=0.1)
    assert sigma[~low].log().std() == pytest.approx(config.sigma_spread, abs=0.1)


TINY_TRAINING = [
    "trainer.steps=4",
    "trainer.validate_every=2",
    "trainer.workers=0",
    "clips.count=2",
    "clips.frames=6",
    "clips.height=64",
    "clips.width=64",
    "clips.crop_height=64",
    "clips.crop_width=64",
    "clips.points=32",
    "clips.validation=1",
]


def train_tiny(command: str, out, *arguments: str, settings: tuple[str, ...] = ()) -> int:
    """Run a training command for four steps; returns its exit code."""
    where = ["--out", str(out), "--device", "cpu", "--quiet"]
    return main([command, *where, *map(str, arguments), "--set", *TINY_TRAINING, *settings])


@pytest.mark.parametrize(
    "variant", [(), ("objective.refiner=false",), ("objective.correspondence=0",)], ids=" ".join
)
def test_a_trained_folder_is_read_as_the_command_says(tmp_path, capsys, variant):
    save_tiny_svd(tmp_path / "svd")
    out = tmp_path / "out"
    assert train_tiny("train-track4gen", out, "--from", tmp_path / "svd", settings=variant) == 0
    rows = [json.loads(line) for line in (out / "history.jsonl").read_text().splitlines()]
    assert {"denoising", "delta_avg", "denoise@1"} <= rows[-1].keys()
    advised = capsys.readouterr().out.split("--set ")[1].split()
    config = read_settings(FeaturesConfig(), None, [setting.removeprefix("features.") for setting in advised])
    frames = dots(5, (64, 64)).frames
    trained = extract_features(frames, config, torch.device("cpu"), seed=0)
    assert str(tmp_path) not in "".join(path.read_text() for path in out.rglob("*.json"))
    plain = FeaturesConfig(extractor="svd", diffusion=DiffusionConfig(model=str(tmp_path / "svd")))
    before = extract_features(frames, plain, torch.device("cpu"), seed=0)
    assert trained.shape == before.shape
    assert not torch.allclose(trained.values, before.values)
    assert (trained.values.min() >= 0) == (not variant)  # a refiner ends in a ReLU


def test_a_checkpoint_of_another_starting_point_is_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd", seed=0)
    assert train_tiny("train-track4gen", tmp_path / "out", "--from", tmp_path / "svd") == 0
    save_tiny_svd(tmp_path / "other", seed=1)
    shutil.rmtree(tmp_path / "svd" / "unet")
    shutil.copytree(tmp_path / "other" / "unet", tmp_path / "svd" / "unet")
    assert train_tiny("train-track4gen", tmp_path / "out", "--from", tmp_path / "svd") == 2
    assert "was made with start=" in capsys.readouterr().err


def test_features_are_taken_as_they_were_trained():
    trained = ObjectiveConfig(block=1, fps=9, refiner=False)
    found = extractor_settings(Path("model"), trained, refined=False)
    prefix = "features.diffusion."
    assert set(found) == {
        f"{prefix}{setting}" for setting in ("model=model", "block=1", "fps=9", "refiner=false")
    }


def test_clips_that_the_disk_cannot_hold_are_refused_before_any_is_drawn(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", tmp_path / "svd", "--keep-clips", tmp_path / "clips"]
    assert train_tiny("train-track4gen", tmp_path / "out", *where, settings=("clips.count=1000000000",)) == 2
    assert "set clips.count lower" in capsys.readouterr().err


def test_stretches_longer_than_clips_are_refused():
    with pytest.raises(ConfigError, match=r"clips\.segment_frames must be at most clips\.frames, 4, got 8"):
        ClipsConfig(frames=4, segment_frames=8)


def test_gradient_checkpointing_changes_no_gradient():
    gradients = []
    for checkpointing in (False, True):
        config = ObjectiveConfig(gradient_checkpointing=checkpointing)
        torch.manual_seed(0)
        objective = Track4GenObjective(tiny_svd(), Refiner(WIDTHS[1]), config, NUM_FRAMES)
        torch.manual_seed(0)
        objective(collate_clips([dots(NUM_FRAMES, (64, 64))]))["loss"].backward()
        gradients.append({name: weight.grad for name, weight in objective.unet.named_parameters()})
        assert objective.unet.is_gradient_checkpointing == checkpointing
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_training_into_the_folder_that_it_starts_from_is_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    assert train_tiny("train-track4gen", tmp_path / "svd", "--from", tmp_path / "svd") == 2
    assert "is what --from names; give another folder" in capsys.readouterr().err


def test_kept_clips_beside_real_videos_are_refused(tmp_path, capsys):
    save_tiny_svd(tmp_path / "svd")
    where = ["--from", tmp_path / "svd", "--videos", tmp_path, "--keep-clips", tmp_path]
    assert train_tiny("train-track4gen", tmp_path / "out", *where) == 2
    assert "--keep-clips: " in capsys.readouterr().err


def test_real_videos_are_trained_on_by_command(tmp_path):
    save_tiny_svd(tmp_path / "svd")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "slide.mp4", sliding(9).frames, 24.0, 20)
    code = train_tiny(
        "train-track4gen", tmp_path / "out", "--from", tmp_path / "svd", "--videos", tmp_path / "videos"
    )
    assert code == 0
    assert len(list((tmp_path / "out" / "clips").glob("slide.mp4-*-000000.npz"))) == 1


def test_decoder_and_encoder_are_trained_one_after_the_other(tmp_path):
    """Each part leaves the other as it was, also when it is trained further."""
    out = tmp_path / "ae"
    stretch = ("clips.segment_frames=4",)
    assert train_tiny("train-autoencoder", out, "--part", "encoder", settings=stretch) == 0
    first = load_autoencoder(out)
    assert train_tiny("train-autoencoder", out, "--part", "decoder", settings=stretch) == 0
    second = load_autoencoder(out)
    assert weights_digest(second.encoder, second.quant_conv) == weights_digest(
        first.encoder, first.quant_conv
    )
    assert weights_digest(second.decoder) != weights_digest(first.decoder)
    longer = (*stretch, "trainer.steps=6")
    assert train_tiny("train-autoencoder", out, "--part", "encoder", settings=longer) == 0
    third = load_autoencoder(out)
    assert weights_digest(third.encoder) != weights_digest(second.encoder)
    assert weights_digest(third.decoder) == weights_digest(second.decoder)
    # the decoder's checkpoint belongs to the encoder it was trained for
    assert train_tiny("train-autoencoder", out, "--part", "decoder", settings=stretch) == 2


def test_the_seed_decides_the_whole_training_of_an_encoder(tmp_path):
    """What reads the latents while the encoder is trained begins at random too."""
    found = []
    for name, before in (("one", 1), ("two", 2)):
        torch.manual_seed(before)
        out = tmp_path / name
        assert (
            train_tiny("train-autoencoder", out, "--part", "encoder", settings=("clips.segment_frames=4",))
            == 0
        )
        found.append((out / "encoder" / "history.jsonl").read_text().splitlines())
    drop = ("seconds",)
    one, two = (
        [{k: v for k, v in json.loads(row).items() if k not in drop} for row in rows] for rows in found
    )
    assert one == two


def test_an_autoencoder_that_lacks_weights_or_is_cut_short_is_refused(tmp_path):
    mini_autoencoder().save_pretrained(tmp_path / "vae")
    (path,) = (tmp_path / "vae").glob("*.safetensors")
    whole = load_file(path)
    save_file({name: value for name, value in whole.items() if "encoder.conv_in" not in name}, path)
    with pytest.raises(WeightsError, match=r"2 missing weights, the first is encoder\.conv_in"):
        load_autoencoder(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_autoencoder(tmp_path)


def test_latents_are_scaled_to_unit_spread():
    vae = mini_autoencoder().eval()
    frames = dots(4, (64, 64)).frames
    scale = latent_scale(vae, frames)
    with torch.no_grad():
        latents = vae.encode(frames.float() / 127.5 - 1).latent_dist.mode()
    assert float((latents * scale).std()) == pytest.approx(1, rel=1e-3)


def test_the_mini_pipeline_begins_with_what_the_autoencoder_is(tmp_path):
    assert (
        train_tiny(
            "train-autoencoder", tmp_path / "ae", "--part", "encoder", settings=("clips.segment_frames=4",)
        )
        == 0
    )
    pipeline, refiner = starting_point(str(tmp_path / "ae"), ObjectiveConfig(), seed=0)
    kept = load_autoencoder(tmp_path / "ae")
    assert weights_digest(pipeline.vae) == weights_digest(kept)
    assert refiner.config.channels == pipeline.unet.config.block_out_channels[0]
    again, _ = starting_point(str(tmp_path / "ae"), ObjectiveConfig(), seed=0)
    assert weights_digest(again.unet) == weights_digest(pipeline.unet)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("clips.frames=2", "clips.frames must be at least 3"),
        ("clips.segment_frames=1", "segment_frames must be 0 or at least 2"),
        ("clips.crop_height=96", "may not be larger"),
        ("objective.low_noise_share=2", "shares of 1"),
        ("objective.temperature=0", "temperature and low_noise_sigma positive"),
        ("objective.block=7", "--from .*up_blocks|--from .*block"),
    ],
)
def test_settings_that_cannot_be_trained_with_are_refused(tmp_path, capsys, setting, said):
    save_tiny_svd(tmp_path / "svd")
    out = tmp_path / "out"
    assert train_tiny("train-track4gen", out, "--from", tmp_path / "svd", settings=(setting,)) == 2
    assert re.search(said, capsys.readouterr().err)
    assert not (out / "checkpoint.pt").exists()


def test_from_a_folder_without_weights_is_refused(tmp_path, capsys):
    (tmp_path / "vae").mkdir()
    code = main(["train-track4gen", "--from", str(tmp_path), "--out", str(tmp_path / "out"), "--quiet"])
    assert code == 2
    assert "train-autoencoder" in capsys.readouterr().err


def sliding(frames: int = 8, step: int = 3) -> Video:
    """A texture that slides to the left by ``step`` pixels a frame."""
    texture = torch.nn.functional.interpolate(
        torch.rand(1, 3, 20, 40, generator=torch.Generator().manual_seed(0)), (160, 320), mode="bicubic"
    )[0]
    pictures = [(texture[:, :, step * t : step * t + 240].clamp(0, 1) * 255).byte() for t in range(frames)]
    return Video(torch.stack(pictures).permute(0, 2, 3, 1).numpy(), 24.0, "slide", "slide")


def test_tracks_of_a_real_clip_follow_its_flow():
    clip = flow_clip(sliding(), (160, 240), 50, FlowEstimator(FlowConfig(), torch.device("cpu")))
    moves = clip.xy[:, 1:] - clip.xy[:, :-1]
    both = clip.visibility[:, 1:] & clip.visibility[:, :-1]
    assert both.float().mean() > 0.5
    median = moves[both].median(dim=0).values
    torch.testing.assert_close(median, torch.tensor([-3.0, 0.0]), atol=0.1, rtol=0)


def test_an_error_that_is_not_the_videos_own_leaves_no_stretch_out(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "slide.mp4", sliding(9).frames, 24.0, 20)

    def fail(*_):
        raise TrackerError("cannot be written, the disk is full")

    monkeypatch.setattr(real_clips, "chain_flow", fail)
    with pytest.raises(TrackerError, match="disk is full"):
        RealClips(tmp_path / "videos", 8, (64, 96), 16, tmp_path / "clips")
    assert not list((tmp_path / "clips").glob("*.done"))


def test_a_folder_of_videos_becomes_clips_once(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    with atomic_write(videos / "slide.mp4") as passing:
        write_video(passing, sliding(9).frames, 24.0, 20)
    clips = RealClips(videos, 4, (96, 144), 20, tmp_path / "kept")
    assert len(clips) == 2  # nine frames give two stretches of four
    assert clips.clip(0).frames.shape == (4, 3, 96, 144)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("*.npz")}
    again = RealClips(videos, 4, (96, 144), 20, tmp_path / "kept")
    before = again.clip(1)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "kept").glob("*.npz")} == written
    assert torch.equal(before.xy, clips.clip(1).xy)
    whole = clips.files[1].read_bytes()
    clips.files[1].write_bytes(whole[:-200])
    with pytest.raises(DatasetError, match="is damaged; the same command makes it anew"):
        clips.clip(1)
    once_more = RealClips(videos, 4, (96, 144), 20, tmp_path / "kept")
    assert once_more.files == clips.files
    assert torch.equal(once_more.clip(1).xy, before.xy)


def test_a_video_that_cannot_be_read_is_left_out_and_a_new_one_of_its_name_is_taken(tmp_path, caplog):
    videos, kept = tmp_path / "videos", tmp_path / "kept"
    videos.mkdir()
    write_video(videos / "slide.mp4", sliding(5).frames, 24.0, 20)
    (videos / "torn.mp4").write_bytes(b"not a video")
    assert len(RealClips(videos, 4, (96, 144), 20, kept)) == 1
    assert "left out" in caplog.text
    assert "torn.mp4" in caplog.text
    write_video(videos / "slide.mp4", sliding(9).frames, 24.0, 20)
    assert len(RealClips(videos, 4, (96, 144), 20, kept)) == 2


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="no video files"):
        RealClips(tmp_path, 4, (96, 144), 20, tmp_path / "kept")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [(("--size", "250", "440"), "multiples of 64"), (("--shown", "0"), "--shown must be at least 1")],
)
def test_strip_refuses_what_it_cannot_draw(tmp_path, capsys, wrong, said):
    from t4g_tracker.commands.strip import main as strip

    with pytest.raises(SystemExit) as ended:
        strip(["model", "--video", "x.mp4", "--out", str(tmp_path / "strip.png"), *wrong])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_strip_names_every_row(tmp_path):
    from t4g_tracker.commands.strip import draw_strip, labelled

    rows = draw_strip(tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames)
    picture = labelled(rows)
    assert next(iter(rows)) == "video"
    assert picture.shape == (len(rows) * (64 + 22), NUM_FRAMES * 64, 3)
    assert np.unique(picture[:22]).size > 1  # something is written there


def test_strip_shows_what_the_model_makes_of_the_video():
    """All but the video goes through the decoder; what is not noised does not depend on the seed."""
    from t4g_tracker.commands.strip import draw_strip

    pipeline, frames = tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames
    rows, others = draw_strip(pipeline, frames, seed=0), draw_strip(pipeline, frames, seed=1)
    again = draw_strip(pipeline, frames, seed=0)
    assert all(torch.equal(rows[name], again[name]) for name in rows)
    alike = {name for name in rows if torch.equal(rows[name], others[name])}
    assert alike == {"video", "autoencoder"}
    with torch.no_grad():
        latents = pipeline.vae.encode(frames.float() / 127.5 - 1).latent_dist.mode()
        shown = pipeline.vae.decode(latents, num_frames=NUM_FRAMES).sample
    there_and_back = ((shown + 1) * 127.5).round().clamp(0, 255)
    assert (rows["autoencoder"].float() - there_and_back).abs().max() <= 1


def test_linear_reading_finds_pictures_that_are_linear_in_the_latents():
    """Also in frames that it was not fitted to; what the latents do not hold, it does not know."""
    from t4g_tracker.commands.strip import LinearReading

    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 12, 16, generator=generator)
    kernel = torch.randn(3 * 8 * 8, 4, 3, 3, generator=generator)
    cells = torch.nn.functional.conv2d(latents, kernel, padding=1) * 5 + 128
    pictures = torch.nn.functional.pixel_shuffle(cells, 8).round().clamp(0, 255).to(torch.uint8)
    read = LinearReading(latents[:2], pictures[:2])
    assert (read(latents[2:]).float() - pictures[2:].float()).abs().mean() < 2
    noise = LinearReading(torch.randn(2, 4, 12, 16, generator=generator), pictures[:2])
    assert (noise(latents[2:]).float() - pictures[2:].float()).abs().mean() > 15


def test_a_model_without_a_decoder_is_shown_all_the_same():
    from t4g_tracker.commands.strip import draw_strip

    pipeline, frames = tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames
    for weight in pipeline.vae.decoder.parameters():
        weight.data.fill_(float("nan"))
    rows = draw_strip(pipeline, frames, read_linearly=True)
    assert list(rows)[:2] == ["video", "latents, read linearly"]
    closer, farther = (
        (rows[name].float() - frames.float()).abs().mean()
        for name in ("latents, read linearly", "noise of level 1")
    )
    assert closer < farther


def test_the_best_answer_is_the_one_that_denoises_without_error():
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 2, 4, 4, 4, generator=generator)
    sigma = torch.tensor([0.1, 1.0, 30.0])
    noisy = latents + sigma.view(-1, 1, 1, 1, 1) * noise
    torch.testing.assert_close(denoised(noisy, best_answer(noisy, latents, sigma), sigma), latents)
