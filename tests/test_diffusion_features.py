"""Diffusion features: conditioned as SVD is, cut into segments, refined, and strict about weights."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from diffusers import AutoencoderKLTemporalDecoder, UNetSpatioTemporalConditionModel
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_models import NUM_FRAMES, WIDTHS, save_tiny_track4gen

from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features import model_files
from t4g_tracker.features.diffusion import DiffusionConfig, check, extract
from t4g_tracker.features.refiner import Refiner

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A tiny Track4Gen folder; not to be changed."""
    return save_tiny_track4gen(tmp_path_factory.mktemp("weights") / "tiny")


@pytest.fixture
def own_model(model, tmp_path):
    """A copy of the tiny folder that a test may damage."""
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture(scope="module")
def frames():
    """Coarse blocks of colour, since the VAE's average of fine noise is the same in every frame."""
    blocks = torch.randint(0, 256, (10, 3, 4, 8), dtype=torch.uint8, generator=torch.manual_seed(3))
    return blocks.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)


@pytest.fixture
def unet_calls(monkeypatch):
    """Everything the UNet is called with."""
    calls = []
    forward = UNetSpatioTemporalConditionModel.forward

    def watched(self, sample, timestep, **others):
        calls.append({"sample": sample, "timestep": timestep, **others})
        return forward(self, sample, timestep, **others)

    monkeypatch.setattr(UNetSpatioTemporalConditionModel, "forward", watched)
    return calls


def _extract(model, frames, kind="track4gen", seed=0, device=CPU, progress=None, **settings):
    config = DiffusionConfig(model=str(model), **({"half": False} | settings))
    return extract(frames, config, kind=kind, device=device, seed=seed, progress=progress)


@pytest.mark.parametrize(
    ("block", "channels", "stride_px", "offset_px"), [(0, 64, 32, 15.5), (2, 64, 8, 3.5), (3, 32, 8, 3.5)]
)
def test_cells_of_a_block_tile_the_frame(model, frames, block, channels, stride_px, offset_px):
    grid = _extract(model, frames[:2], kind="svd", block=block)
    assert grid.shape == (2, channels, 64 // stride_px, 128 // stride_px)
    assert (grid.stride_px, grid.offset_px, grid.working_size) == (stride_px, offset_px, (64, 128))
    assert grid.values.dtype == torch.float16


def test_features_come_from_the_frames_own_segment(model, frames):
    before = _extract(model, frames).values  # segments 0-3, 4-7, and 6-9 of which 8, 9 are kept
    changed = frames.clone()
    changed[5] = 255 - changed[5]
    after = _extract(model, changed).values
    assert torch.equal(after[:4], before[:4])
    assert torch.equal(after[8:], before[8:])
    for frame in range(4, 8):
        assert not torch.equal(after[frame], before[frame])


def test_borrowed_frames_inform_the_last_segment_and_are_dropped(model, frames):
    whole = _extract(model, frames).values
    assert torch.equal(whole[:8], _extract(model, frames[:8]).values)  # 6 and 7 are not from 6-9
    changed = frames.clone()
    changed[6] = 255 - changed[6]
    assert not torch.equal(_extract(model, changed).values[8:], whole[8:])


def test_segment_does_not_depend_on_what_follows(model, frames):
    whole = _extract(model, frames).values
    torch.testing.assert_close(_extract(model, frames[:4]).values, whole[:4], atol=0, rtol=0)


def test_same_seed_same_features_another_seed_others(model, frames):
    first, again, other = (_extract(model, frames[:4], seed=seed).values for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_track4gen_is_the_refiner_on_raw_features_and_svd_is_raw(model, frames):
    refined = _extract(model, frames[:5]).values
    raw = _extract(model, frames[:5], refiner=False).values
    assert torch.equal(_extract(model, frames[:5], kind="svd").values, raw)
    refiner = Refiner.from_pretrained(model, subfolder="refiner").eval()
    with torch.no_grad():
        torch.testing.assert_close(refined.float(), refiner(raw.float()), atol=2e-4, rtol=5e-3)
    assert (raw < 0).any()
    assert not (refined < 0).any()


def test_unet_never_sees_more_than_a_segment_nor_the_vae_more_than_a_frame(
    model, frames, unet_calls, monkeypatch
):
    encoded = []
    encode = AutoencoderKLTemporalDecoder.encode

    def watched(self, images):
        encoded.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(AutoencoderKLTemporalDecoder, "encode", watched)
    told = []
    _extract(model, frames, progress=lambda *numbers: told.append(numbers))
    assert [tuple(call["sample"].shape[:2]) for call in unet_calls] == [(1, NUM_FRAMES)] * 3
    assert set(encoded) == {1}
    assert told == [(4, 10), (8, 10), (10, 10)]
    _extract(model, frames[:5], segment_frames=3)
    assert [call["sample"].shape[1] for call in unet_calls[3:]] == [3, 3]


def test_unet_is_conditioned_as_svd_is(model, frames, unet_calls):
    _extract(model, frames[:4], noise_sigma=0.2, noise_aug_strength=0.0, fps=9, motion_bucket_id=40)
    (call,) = unet_calls
    assert call["timestep"].item() == pytest.approx(0.25 * math.log(0.2))  # EDM's c_noise
    torch.testing.assert_close(call["added_time_ids"], torch.tensor([[8.0, 40.0, 0.0]]))  # fps - 1
    assert call["encoder_hidden_states"].shape == (1, 1, 16)

    vae = AutoencoderKLTemporalDecoder.from_pretrained(model, subfolder="vae")
    with torch.no_grad():
        modes = vae.encode(frames[:4].float() / 127.5 - 1).latent_dist.mode()
    noisy, condition = call["sample"][0].split(4, dim=1)
    assert (modes[1] - modes[0]).abs().max() > 1e-2
    torch.testing.assert_close(condition, modes[:1].expand(4, -1, -1, -1), atol=1e-4, rtol=1e-4)
    noise = noisy * math.sqrt(1 + 0.2**2) - modes * vae.config.scaling_factor  # EDM's c_in undone
    assert noise.std().item() == pytest.approx(0.2, rel=0.05)
    assert noise.mean().abs() < 0.02
    assert (noise[0] - noise[1]).std() > 0.2  # every frame has its own


def test_conditioning_frame_is_the_segments_first(model, frames, unet_calls):
    _extract(model, frames[:8], noise_aug_strength=0.0)
    vae = AutoencoderKLTemporalDecoder.from_pretrained(model, subfolder="vae")
    for call, first in zip(unet_calls, (0, 4), strict=True):
        with torch.no_grad():
            mode = vae.encode(frames[first][None].float() / 127.5 - 1).latent_dist.mode()[0]
        torch.testing.assert_close(call["sample"][0, 2, 4:], mode, atol=1e-4, rtol=1e-4)
    assert not torch.equal(unet_calls[0]["encoder_hidden_states"], unet_calls[1]["encoder_hidden_states"])


def test_features_are_the_frames_own_in_what_a_whole_pass_would_give(model, frames, unet_calls):
    found = _extract(model, frames, kind="svd").values
    unet = UNetSpatioTemporalConditionModel.from_pretrained(model, subfolder="unet").eval()
    outputs = []
    unet.up_blocks[2].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for call in unet_calls[:3]:
        with torch.no_grad():
            unet(**call)
    expected = torch.cat([outputs[0], outputs[1], outputs[2][2:]])  # 6 and 7 are borrowed
    torch.testing.assert_close(found, expected.half(), atol=1e-5, rtol=2e-3)


def test_blocks_after_the_wanted_one_are_not_run(own_model, frames):
    weights = own_model / "unet" / "diffusion_pytorch_model.safetensors"
    before = _extract(own_model, frames[:4], kind="svd").values
    state = load_file(weights)
    for name, value in state.items():
        if name.startswith("up_blocks.3."):
            value.fill_(math.nan)
    save_file(state, weights, metadata={"format": "pt"})
    assert torch.equal(_extract(own_model, frames[:4], kind="svd").values, before)


def test_half_precision_stays_near_single(model, frames, cpu_has_bfloat16):
    single = _extract(model, frames[:4], kind="svd").values.float().flatten()
    half = _extract(model, frames[:4], kind="svd", half=True).values.float().flatten()
    assert torch.cosine_similarity(single, half, dim=0) > 0.999
    assert not torch.equal(single, half)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
def test_gpu_in_half_precision_agrees_with_the_cpu(model, frames):
    single = _extract(model, frames).values.float().flatten()
    half = _extract(model, frames, half=True, device=torch.device("cuda")).values
    assert half.device.type == "cpu"
    assert torch.cosine_similarity(single, half.float().flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "image_encoder/config.json",
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "image_encoder/model.safetensors",
        "refiner/diffusion_pytorch_model.safetensors",
    ],
)
def test_missing_part_is_named_before_anything_is_loaded(own_model, missing):
    config = DiffusionConfig(model=str(own_model))
    assert check(config, "track4gen") == own_model
    (own_model / missing).unlink()
    named = missing if missing.endswith(".json") else missing.split("/")[0]
    with pytest.raises(WeightsError) as error:
        check(config, "track4gen")
    assert str(own_model / named) in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_refiner_stops_track4gen_alone(own_model):
    shutil.rmtree(own_model / "refiner")
    config = DiffusionConfig(model=str(own_model))
    with pytest.raises(WeightsError, match=r"features\.diffusion\.refiner=false"):
        check(config, "track4gen")
    check(config, "svd")
    check(DiffusionConfig(model=str(own_model), refiner=False), "track4gen")


def test_refiner_of_another_width_is_refused(own_model):
    Refiner(channels=16).save_pretrained(own_model / "refiner")
    with pytest.raises(WeightsError, match="takes 16 channels, but up-block 2 of the UNet gives 64"):
        check(DiffusionConfig(model=str(own_model)), "track4gen")


def test_refiner_belongs_to_its_block(model):
    with pytest.raises(
        WeightsError, match=f"takes 64 channels, but up-block 3 of the UNet gives {WIDTHS[0]}"
    ):
        check(DiffusionConfig(model=str(model), block=3), "track4gen")
    with pytest.raises(WeightsError, match="has up-blocks 0 to 3"):
        check(DiffusionConfig(model=str(model), block=4), "svd")


def test_another_kind_of_diffusion_model_is_refused(own_model):
    path = own_model / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(WeightsError, match="is a UNet2DConditionModel, not"):
        check(DiffusionConfig(model=str(own_model)), "svd")


@pytest.mark.parametrize("part", ["unet", "refiner", "vae"])
@pytest.mark.parametrize("fault", ["missing", "unexpected", "cut short"])
def test_weights_load_strictly(own_model, frames, part, fault):
    path = own_model / part / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    name = sorted(state)[0]
    if fault == "missing":
        del state[name]
    elif fault == "unexpected":
        state["one_too_many"] = torch.zeros(1)
    save_file(state, path, metadata={"format": "pt"})
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError) as error:
        _extract(own_model, frames[:1])
    assert str(own_model / part) in str(error.value)
    assert {"missing": name, "unexpected": "one_too_many", "cut short": "cannot be loaded"}[fault] in str(
        error.value
    )
    assert "\n" not in str(error.value)


def test_folder_with_only_the_half_precision_variant_loads(own_model, frames):
    for path in own_model.glob("*/*.safetensors"):
        state = {name: value.half() for name, value in load_file(path).items()}
        save_file(state, path.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
        path.unlink()
    assert _extract(own_model, frames[:2]).values.isfinite().all()


def test_features_beyond_float16_are_refused(own_model, frames):
    path = own_model / "refiner" / "diffusion_pytorch_model.safetensors"
    state = load_file(path)
    state["layers.21.bias"] += 1e6
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match="float16 cannot hold"):
        _extract(own_model, frames[:1])


def test_unreachable_hub_and_unknown_folder_say_what_to_do(monkeypatch, tmp_path):
    def unreachable(*args, **kwargs):
        raise LocalEntryNotFoundError("cannot find\nthe requested files")

    monkeypatch.setattr(model_files, "snapshot_download", unreachable)
    with pytest.raises(WeightsError) as error:
        check(DiffusionConfig(), "svd")
    assert "stabilityai/stable-video-diffusion-img2vid" in str(error.value)
    assert "set features.diffusion.model=FOLDER" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(WeightsError, match="no such folder"):
        check(DiffusionConfig(model=str(tmp_path / "nothing")), "svd")


def test_track4gen_asks_for_weights_of_ones_own():
    with pytest.raises(WeightsError, match=r"features\.extractor=svd"):
        check(DiffusionConfig(), "track4gen")


def test_cells_that_are_not_square_are_refused(model, frames):
    with pytest.raises(ConfigError, match=r"working_size\.multiple=64"):
        _extract(model, frames[:1, :, :, :72], kind="svd", block=0)


def test_float_frames_are_refused(model, frames):
    with pytest.raises(ValueError, match="uint8"):
        _extract(model, frames.float())


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("block", -1),
        ("noise_sigma", 0.0),
        ("noise_sigma", 1e4),
        ("segment_frames", -1),
        ("fps", 0),
        ("motion_bucket_id", -1),
        ("noise_aug_strength", -0.1),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"features\.diffusion\.{setting} must"):
        DiffusionConfig(**{setting: value})
