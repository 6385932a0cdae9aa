"""DINOv2 and DINO: cells lie where the grid says, facets are those of the layer, weights are strict."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_published import DINO_WIDTH, DINOV2_WIDTH, save_tiny_dino, save_tiny_dinov2
from transformers import Dinov2Model, ViTModel

from t4g_tracker.coordinates import cells_to_pixels
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features import image_transformers, model_files
from t4g_tracker.features.extractor import check_features, extract_features
from t4g_tracker.features.settings import DinoConfig, Dinov2Config, FeaturesConfig

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_dinov2(tmp_path_factory.mktemp("weights") / "dinov2")


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """Knows neither its neighbours nor where it is: every cell sees its own patch alone."""
    folder = save_tiny_dinov2(tmp_path_factory.mktemp("weights") / "blind", layerscale_value=0.0)
    state = load_file(folder / "model.safetensors")
    state["embeddings.position_embeddings"].zero_()
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return save_tiny_dino(tmp_path_factory.mktemp("weights") / "dino")


@pytest.fixture
def own_model(model, tmp_path):
    return shutil.copytree(model, tmp_path / "model")


@pytest.fixture(scope="module")
def frames():
    return torch.randint(0, 256, (3, 3, 64, 128), dtype=torch.uint8, generator=torch.manual_seed(3))


def _extract(model, frames, progress=None, **settings):
    kind = DinoConfig if model.name == "dino" else Dinov2Config
    config = kind(model=str(model), **({"half": False} | settings))
    return image_transformers.extract(frames, config, device=CPU, progress=progress)


@pytest.mark.parametrize("stride_px", [4, 8, 16])
def test_cells_tile_the_frame_at_the_wanted_stride(model, frames, stride_px):
    grid = _extract(model, frames[:1], stride_px=stride_px)
    assert grid.shape == (1, DINOV2_WIDTH, 64 // stride_px, 128 // stride_px)
    assert (grid.stride_px, grid.offset_px, grid.working_size) == (stride_px, (stride_px - 1) / 2, (64, 128))
    assert grid.values.dtype == torch.float16


@pytest.mark.parametrize("stride_px", [8, 16])
def test_a_spot_at_a_cells_centre_changes_that_cell_most(model, stride_px):
    plain = torch.full((1, 3, 64, 128), 90, dtype=torch.uint8)
    grid = _extract(model, plain, stride_px=stride_px)
    x, y = cells_to_pixels(torch.tensor([5.0, 2.0]), grid.stride_px, grid.offset_px).tolist()
    spot = plain.clone()
    spot[..., int(y - 1) : int(y + 3), int(x - 1) : int(x + 3)] = 255  # centred on (x, y), halves of pixels
    changed = (_extract(model, spot, stride_px=stride_px).values - grid.values).float().norm(dim=1)[0]
    assert divmod(int(changed.argmax()), grid.shape[3]) == (2, 5)


def test_content_that_slides_by_a_cell_takes_its_feature_along(blind, frames):
    before = _extract(blind, frames[:1]).values
    slid = torch.roll(frames[:1], (8, 16), dims=(2, 3))  # 8 px down, 16 px right
    after = _extract(blind, slid).values
    inner = (..., slice(2, 7), slice(3, 15))  # away from where the frame wraps round
    expected = torch.roll(before, (1, 2), dims=(2, 3))
    torch.testing.assert_close(after[inner], expected[inner], atol=2e-3, rtol=0)
    assert (after[inner] - before[inner]).abs().max() > 0.5


def prepared(frames, size):
    """Images of a size, as both models were trained on them."""
    image = torch.nn.functional.interpolate(
        frames / 255, size=size, mode="bilinear", align_corners=False, antialias=True
    )
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (image - mean.view(3, 1, 1)) / std.view(3, 1, 1)


def test_features_are_the_normalised_patch_tokens_of_the_wanted_layer(model, frames):
    reference = Dinov2Model.from_pretrained(model).eval()
    image = prepared(frames[:1], (112, 224))
    with torch.no_grad():
        answer = reference(image, output_hidden_states=True)
        first = reference.layernorm(answer.hidden_states[1])
    for layer, tokens in ((0, answer.last_hidden_state), (2, answer.last_hidden_state), (1, first)):
        found = _extract(model, frames[:1], layer=layer).values[0].float()
        expected = tokens[0, 1:].T.reshape(DINOV2_WIDTH, 8, 16)
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
    assert (first - answer.last_hidden_state).abs().max() > 0.1


def test_without_the_norm_tokens_are_those_that_the_block_gives(model, frames):
    reference = Dinov2Model.from_pretrained(model).eval()
    with torch.no_grad():
        answer = reference(prepared(frames[:1], (112, 224)), output_hidden_states=True)
    for layer in (1, 2):
        found = _extract(model, frames[:1], layer=layer, norm=False).values[0].float()
        expected = answer.hidden_states[layer][0, 1:].T.reshape(DINOV2_WIDTH, 8, 16)
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


def test_dino_gives_what_a_direct_call_gives(dino, frames):
    reference = ViTModel.from_pretrained(dino, add_pooling_layer=False).eval()
    image = prepared(frames[:1], (64, 128))  # patches of 8 px: frames keep their size
    with torch.no_grad():
        expected = reference(image, interpolate_pos_encoding=True).last_hidden_state
    grid = _extract(dino, frames[:1])
    assert (grid.stride_px, grid.offset_px) == (8, 3.5)
    expected = expected[0, 1:].T.reshape(DINO_WIDTH, 8, 16)
    torch.testing.assert_close(grid.values[0].float(), expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("facet", ["query", "key", "value"])
@pytest.mark.parametrize("kind", ["dinov2", "dino"])
def test_a_facet_is_the_projection_of_the_layers_normalised_input(kind, facet, model, dino, frames):
    folder, image = {
        "dinov2": (model, prepared(frames[:1], (112, 224))),
        "dino": (dino, prepared(frames[:1], (64, 128))),
    }[kind]
    reference, more = {
        "dinov2": (Dinov2Model, {}),
        "dino": (ViTModel, {"interpolate_pos_encoding": True}),
    }[kind]
    with torch.no_grad():
        answer = reference.from_pretrained(folder).eval()(image, output_hidden_states=True, **more)
    state = load_file(folder / "model.safetensors")
    norm = {"dinov2": "norm1", "dino": "layernorm_before"}[kind]
    for layer in (1, 2):
        block = f"encoder.layer.{layer - 1}"  # as published
        weights, bias = (state[f"{block}.attention.attention.{facet}.{name}"] for name in ("weight", "bias"))
        scale, shift = (state[f"{block}.{norm}.{name}"] for name in ("weight", "bias"))
        tokens = answer.hidden_states[layer - 1][0, 1:]
        epsilon = {"dinov2": 1e-6, "dino": 1e-12}[kind]
        tokens = torch.nn.functional.layer_norm(tokens, tokens.shape[1:], scale, shift, epsilon)
        expected = (tokens @ weights.T + bias).T.reshape(-1, 8, 16)
        found = _extract(folder, frames[:1], facet=facet, layer=layer).values[0].float()
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(
    ("kind", "stride_px", "patch_stride", "shape", "offset"),
    [
        ("dinov2", 4, 7, (15, 31), 3.5),  # of 112x224 pixels, (112 - 14) / 7 + 1 = 15
        ("dinov2", 8, 7, (7, 15), 7.5),
        ("dinov2", 8, 8, (7, 15), 6.5),  # frames keep their size: patch 0 has pixels 0 to 13
        ("dinov2", 8, 14, (8, 16), 3.5),  # no overlap
        ("dino", 4, 4, (15, 31), 3.5),
        ("dino", 8, 3, (6, 14), 8 * 8 / 6 - 0.5),  # of 24x48 pixels, where 2 below and on the right are left
    ],
)
def test_overlapping_patches_lie_where_the_grid_says(
    kind, stride_px, patch_stride, shape, offset, model, dino
):
    folder = {"dinov2": model, "dino": dino}[kind]
    plain = torch.full((1, 3, 64, 128), 90, dtype=torch.uint8)
    grid = _extract(folder, plain, stride_px=stride_px, patch_stride=patch_stride)
    assert grid.shape[2:] == shape
    assert (grid.stride_px, grid.offset_px) == pytest.approx((stride_px, offset))
    spot, middle = plain.clone(), cells_to_pixels(torch.tensor([5.0, 2.0]), grid.stride_px, grid.offset_px)
    x, y = (middle + 0.5).round().int().tolist()
    spot[..., y - 1 : y + 1, x - 1 : x + 1] = 255
    # the keys of the first layer have seen nothing but their own patches
    before, after = (
        _extract(folder, image, stride_px=stride_px, patch_stride=patch_stride, facet="key", layer=1).values
        for image in (plain, spot)
    )
    row, column = (before != after).any(dim=1)[0].nonzero().T.float()
    changed = torch.stack([column.mean(), row.mean()])
    found = cells_to_pixels(changed, grid.stride_px, grid.offset_px)
    assert (found - middle).abs().max() < 0.3 * stride_px


def test_position_encodings_follow_the_grid_of_overlapping_patches(blind, model, frames):
    """A patch's token without attention is its embedding plus the encoding interpolated at its cell."""
    state = load_file(model / "model.safetensors")
    state |= {name: torch.zeros_like(part) for name, part in state.items() if "layer_scale" in name}
    save_file(state, blind.parent / "model.safetensors", metadata={"format": "pt"})
    shutil.copy(blind / "config.json", blind.parent)
    grid = _extract(blind.parent, frames[:1], stride_px=4, patch_stride=7, norm=False)
    embedded = torch.nn.functional.conv2d(
        prepared(frames[:1], (112, 224)),
        state["embeddings.patch_embeddings.projection.weight"],
        state["embeddings.patch_embeddings.projection.bias"],
        stride=7,
    )
    encodings = state["embeddings.position_embeddings"][0, 1:].T.reshape(1, DINOV2_WIDTH, 8, 8)
    encodings = torch.nn.functional.interpolate(encodings, size=(15, 31), mode="bicubic")
    torch.testing.assert_close(grid.values.float(), embedded + encodings, atol=4e-3, rtol=4e-3)


def test_patches_that_leave_gaps_or_do_not_fit_are_refused(model, frames):
    with pytest.raises(ConfigError, match=r"features\.dinov2\.patch_stride must be at most 14"):
        _extract(model, frames, patch_stride=15)
    with pytest.raises(ConfigError, match=r"makes frames of 16x8, in which no patch of 14 px fits"):
        _extract(model, frames, patch_stride=1)


def test_a_vision_transformer_is_no_dinov2(dino):
    with pytest.raises(WeightsError, match="is a vit, not a dinov2"):
        image_transformers.check(Dinov2Config(model=str(dino)))


def test_every_frame_is_described_by_itself(model, frames):
    told = []
    together = _extract(model, frames, progress=lambda *numbers: told.append(numbers)).values
    assert torch.equal(together[1:2], _extract(model, frames[1:2]).values)
    assert not torch.equal(together[0], together[1])
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_half_precision_stays_near_single(model, frames, cpu_has_bfloat16):
    single = _extract(model, frames[:1]).values.float().flatten()
    half = _extract(model, frames[:1], half=True).values.float().flatten()
    assert torch.cosine_similarity(single, half, dim=0) > 0.999
    assert not torch.equal(single, half)


def test_they_are_offered_as_extractors(model, dino, frames):
    config = FeaturesConfig(extractor="dinov2", dinov2=Dinov2Config(model=str(model), half=False))
    assert "model.safetensors" in check_features(config)
    assert torch.equal(extract_features(frames, config, CPU, 0).values, _extract(model, frames).values)
    config = FeaturesConfig(extractor="dino", dino=DinoConfig(model=str(dino), half=False))
    assert "model.safetensors" in check_features(config)
    assert torch.equal(extract_features(frames, config, CPU, 0).values, _extract(dino, frames).values)


def test_a_stride_that_does_not_divide_the_frame_is_refused(model, frames):
    with pytest.raises(ConfigError, match=r"stride_px must divide the working size 128x64, got 7"):
        _extract(model, frames, stride_px=7)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors"])
def test_missing_files_are_named_before_anything_is_loaded(own_model, missing):
    (own_model / missing).unlink()
    with pytest.raises(WeightsError, match=r"features\.dinov2\.model: .*(is missing|holds no .safetensors)"):
        image_transformers.check(Dinov2Config(model=str(own_model)))


def test_another_kind_of_model_or_layer_is_refused(own_model):
    with pytest.raises(WeightsError, match="has layers 1 to 2"):
        image_transformers.check(Dinov2Config(model=str(own_model), layer=3))
    path = own_model / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "dinov2_with_registers"}))
    with pytest.raises(WeightsError, match="is a dinov2_with_registers, not a dinov2"):
        image_transformers.check(Dinov2Config(model=str(own_model)))


@pytest.mark.parametrize("fault", ["missing", "unexpected"])
def test_weights_load_strictly(own_model, frames, fault):
    path = own_model / "model.safetensors"
    state = load_file(path)
    name = sorted(state)[0]
    if fault == "missing":
        del state[name]
    else:
        state["one_too_many"] = torch.zeros(1)
    save_file(state, path, metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"1 {fault} weights, the first is"):
        _extract(own_model, frames[:1])


def test_an_unreachable_hub_is_one_sentence(monkeypatch):
    def unreachable(*args, **kwargs):
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr(model_files, "snapshot_download", unreachable)
    with pytest.raises(WeightsError, match=r"facebook/dinov2-base .*features\.dinov2\.model=FOLDER") as error:
        image_transformers.check(Dinov2Config())
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("setting", "value"), [("layer", -1), ("stride_px", 0), ("model", "")])
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ConfigError, match=rf"features\.dinov2\.{setting} must"):
        Dinov2Config(**{setting: value})
