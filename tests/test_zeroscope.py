"""ZeroScope: the frames, lightly noised, an empty prompt, one block; strict about weights."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet3DConditionModel
from tiny_published import ZEROSCOPE_WIDTHS, save_tiny_zeroscope
from transformers import CLIPTextModel

from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features import model_files, zeroscope
from t4g_tracker.features.extractor import check_features, extract_features
from t4g_tracker.features.settings import FeaturesConfig, ZeroscopeConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_zeroscope(tmp_path_factory.mktemp("weights") / "zeroscope")


@pytest.fixture
def own_model(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture(scope="module")
def frames():
    blocks = torch.randint(0, 256, (6, 3, 4, 8), dtype=torch.uint8, generator=torch.manual_seed(3))
    return blocks.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)


@pytest.fixture
def unet_calls(monkeypatch):
    """Everything the UNet is called with."""
    calls = []
    forward = UNet3DConditionModel.forward

    def watched(self, sample, timestep, **others):
        calls.append({"sample": sample, "timestep": timestep, **others})
        return forward(self, sample, timestep, **others)

    monkeypatch.setattr(UNet3DConditionModel, "forward", watched)
    return calls


def _extract(model, frames, seed=0, progress=None, **settings):
    config = ZeroscopeConfig(model=str(model), **({"half": False, "segment_frames": 4} | settings))
    return zeroscope.extract(frames, config, device=CPU, seed=seed, progress=progress)


@pytest.mark.parametrize(("block", "channels", "stride_px"), [(0, 64, 32), (2, 64, 8), (3, 32, 8)])
def test_cells_of_a_block_tile_the_frame(model, frames, block, channels, stride_px):
    grid = _extract(model, frames[:2], block=block)
    assert ZEROSCOPE_WIDTHS[-1 - block] == channels
    assert grid.shape == (2, channels, 64 // stride_px, 128 // stride_px)
    assert (grid.stride_px, grid.offset_px, grid.working_size) == (stride_px, (stride_px - 1) / 2, (64, 128))
    assert grid.values.dtype == torch.float16


def test_of_several_spots_the_one_on_a_cell_changes_it_most(model):
    plain = torch.full((4, 3, 64, 128), 90, dtype=torch.uint8)
    before = _extract(model, plain).values.float()
    spots = [(1, 1, 2), (1, 1, 12), (1, 6, 4), (1, 5, 13), (2, 1, 2), (0, 6, 4)]  # frame, row, column
    changes = []
    for frame, row, column in spots:
        spot = plain.clone()
        spot[frame, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] = 255
        changed = (_extract(model, spot).values.float() - before).norm(dim=1)
        changes.append(torch.stack([changed[cell] for cell in spots]))
    assert torch.stack(changes).argmax(dim=0).tolist() == list(range(len(spots)))


def test_unet_is_given_the_noised_frames_and_an_empty_prompt(model, frames, unet_calls):
    _extract(model, frames[:4], timestep=400)
    (call,) = unet_calls
    assert call["timestep"].tolist() == [400]
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae")
    text_encoder = CLIPTextModel.from_pretrained(model, subfolder="text_encoder")
    with torch.no_grad():
        modes = vae.encode(frames[:4].float() / 127.5 - 1).latent_dist.mode() * vae.config.scaling_factor
        prompt = text_encoder(torch.tensor([[2, 3, 3, 3, 3, 3, 3, 3]]))[0]  # begin, end, padding
    torch.testing.assert_close(call["encoder_hidden_states"], prompt)
    kept = DDIMScheduler.from_pretrained(model, subfolder="scheduler").alphas_cumprod[400]
    assert call["sample"].shape == (1, 4, 4, 8, 16)
    noise = (call["sample"][0].transpose(0, 1) - modes * kept.sqrt()) / (1 - kept).sqrt()
    assert noise.std().item() == pytest.approx(1, rel=0.05)
    assert noise.mean().abs() < 0.05
    assert (noise[0] - noise[1]).std() > 1  # every frame has its own


def test_features_are_the_frames_own_in_what_a_whole_pass_would_give(model, frames, unet_calls):
    told = []
    found = _extract(model, frames, progress=lambda *numbers: told.append(numbers)).values
    assert [call["sample"].shape[2] for call in unet_calls] == [4, 4]
    assert told == [(4, 6), (6, 6)]
    unet = UNet3DConditionModel.from_pretrained(model, subfolder="unet").eval()
    outputs = []
    unet.up_blocks[2].register_forward_hook(lambda module, inputs, output: outputs.append(output))
    for call in unet_calls[:2]:
        with torch.no_grad():
            unet(**call)
    expected = torch.cat([outputs[0], outputs[1][2:]])  # 2 and 3 are borrowed
    torch.testing.assert_close(found, expected.half(), atol=1e-5, rtol=2e-3)


def test_blocks_after_the_wanted_one_are_not_run(own_model, frames):
    before = _extract(own_model, frames[:4]).values
    path = own_model / "unet" / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    for name, value in state.items():
        if name.startswith("up_blocks.3."):
            value.fill_(math.nan)
    torch.save(state, path)
    assert torch.equal(_extract(own_model, frames[:4]).values, before)


def test_same_seed_same_features_another_seed_others(model, frames):
    first, again, other = (_extract(model, frames[:4], seed=seed).values for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_half_precision_stays_near_single(model, frames, cpu_has_bfloat16):
    single = _extract(model, frames[:4]).values.float().flatten()
    half = _extract(model, frames[:4], half=True).values.float().flatten()
    assert torch.cosine_similarity(single, half, dim=0) > 0.999
    assert not torch.equal(single, half)


def test_it_is_offered_as_an_extractor(model, frames):
    settings = ZeroscopeConfig(model=str(model), half=False, segment_frames=4)
    config = FeaturesConfig(extractor="zeroscope", zeroscope=settings)
    assert "unet/diffusion_pytorch_model.bin" in check_features(config)
    assert torch.equal(extract_features(frames, config, CPU, 5).values, _extract(model, frames, 5).values)


@pytest.mark.parametrize(
    "missing",
    [
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "tokenizer/vocab.json",
        "scheduler/scheduler_config.json",
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ],
)
def test_missing_part_is_named_before_anything_is_loaded(own_model, missing):
    config = ZeroscopeConfig(model=str(own_model))
    assert zeroscope.check(config) == own_model
    (own_model / missing).unlink()
    named = missing if missing.endswith("g.json") or "index" in missing else missing.split("/")[0]
    with pytest.raises(WeightsError) as error:
        zeroscope.check(config)
    assert f"features.zeroscope.model: {own_model / named}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "cut short"])
def test_weights_load_strictly(own_model, frames, fault):
    path = own_model / "unet" / "diffusion_pytorch_model.bin"
    state = torch.load(path, weights_only=True)
    name = sorted(state)[0]
    if fault == "missing":
        del state[name]
    elif fault == "unexpected":
        state["one_too_many"] = torch.zeros(1)
    torch.save(state, path)
    if fault == "cut short":
        path.write_bytes(path.read_bytes()[:-1000])
    said = {"missing": name, "unexpected": "one_too_many", "cut short": "cannot be loaded"}[fault]
    with pytest.raises(WeightsError) as error:
        _extract(own_model, frames[:1])
    assert str(own_model / "unet") in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_what_does_not_fit_together_is_refused(own_model):
    with pytest.raises(WeightsError, match="has up-blocks 0 to 3"):
        zeroscope.check(ZeroscopeConfig(model=str(own_model), block=4))
    with pytest.raises(WeightsError, match="has timesteps 0 to 999"):
        zeroscope.check(ZeroscopeConfig(model=str(own_model), timestep=1000))
    path = own_model / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"hidden_size": 24}))
    with pytest.raises(WeightsError, match="gives 24 channels, but the UNet takes 16"):
        zeroscope.check(ZeroscopeConfig(model=str(own_model)))
    path = own_model / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(WeightsError, match="is a UNet2DConditionModel, not a UNet3DConditionModel"):
        zeroscope.check(ZeroscopeConfig(model=str(own_model)))


def test_an_unreachable_hub_is_one_sentence(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(model_files, "snapshot_download", unreachable)
    with pytest.raises(WeightsError, match=r"zeroscope_v2_576w .*features\.zeroscope\.model=") as error:
        zeroscope.check(ZeroscopeConfig())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("setting", "value"), [("block", -1), ("timestep", -1), ("segment_frames", 0), ("model", "")]
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"features\.zeroscope\.{setting} must"):
        ZeroscopeConfig(**{setting: value})
