"""Weights and models that may be anything: nothing in them is run, each fault is one line with a remedy."""

from __future__ import annotations

import json
import pickle
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import save_tiny_track4gen
from tiny_published import save_tiny_dinov2, save_tiny_zeroscope
from torchvision.models.optical_flow import raft_small

from t4g_tracker.errors import WeightsError
from t4g_tracker.features import image_transformers, model_files, zeroscope
from t4g_tracker.features.diffusion import check as check_diffusion
from t4g_tracker.features.diffusion_weights import load_pipeline
from t4g_tracker.features.layouts import DINOV2
from t4g_tracker.features.settings import DiffusionConfig, Dinov2Config, ZeroscopeConfig
from t4g_tracker.flow.raft import load_raft
from t4g_tracker.weight_loading import loading

CPU = torch.device("cpu")
FRAMES = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8, generator=torch.manual_seed(3))
NOT_WHOLE = "it is not a whole file of weights"


class Attack:
    """Makes a file when it is unpickled in the usual way."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return Path.touch, (self.file,)


@pytest.fixture(autouse=True)
def no_library_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def refusal(call, *arguments) -> str:
    """The one line with which a call refuses."""
    with pytest.raises(WeightsError) as told:
        call(*arguments)
    assert "\n" not in str(told.value)
    return str(told.value)


TEXT, OLD_PICKLE = b"hello, a text\n", b"(lp0\nI1\na."


@pytest.mark.parametrize(
    "content",
    [TEXT, b"h", b"", OLD_PICKLE, b"PK\x03\x04 cut", b'{"a": 1}', pickle.dumps({"a": 1}), bytes(99)],
    ids=["text", "letter", "empty", "old pickle", "cut zip", "json", "pickle", "zeros"],
)
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_that_holds_no_weights_is_refused_as_such(tmp_path, content, suffix):
    path = tmp_path / f"raft{suffix}"
    path.write_bytes(content)
    said = refusal(load_raft, "raft-small", str(path), CPU)
    assert said.startswith(f"{path}: cannot be loaded (")
    assert said.endswith("; give a .safetensors or .pth state dict of RAFT, or fetch it again")


@pytest.mark.parametrize("wrapped", [True, False])
def test_pickled_code_is_named_and_not_run(tmp_path, wrapped):
    mark, path = tmp_path / "was-run", tmp_path / "raft.pth"
    attack = Attack(mark)
    if wrapped:
        torch.save({"weight": attack}, path)
    else:
        path.write_bytes(pickle.dumps(attack, 2))
    said = refusal(load_raft, "raft-small", str(path), CPU)
    assert "could run code; nothing was run" in said or NOT_WHOLE in said
    assert not mark.exists()


@pytest.fixture(scope="module")
def raft_state():
    return raft_small(weights=None).state_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: [1], "it holds something else than tensors by name"),
        (lambda state: {"a": 1}, "it holds something else than tensors by name"),
        (lambda state: {"model": state}, "it holds something else than tensors by name"),
        (lambda state: {1: torch.zeros(1)}, "it holds something else than tensors by name"),
        (
            lambda state: {f"module.{name}": value for name, value in state.items()},
            'Missing key(s) in state_dict: "feature_encoder',
        ),
        (lambda state: state | {"more": torch.zeros(1)}, 'Unexpected key(s) in state_dict: "more"'),
        (
            lambda state: {name: value[..., None] for name, value in state.items()},
            "size mismatch for",
        ),
        (lambda state: {name: value * 1j for name, value in state.items()}, "holds torch.complex64"),
        (
            lambda state: {name: value / 0 for name, value in state.items()},
            "holds numbers that are not finite",
        ),
    ],
    ids=["list", "numbers", "checkpoint", "numbered", "parallel", "more", "shapes", "complex", "nan"],
)
def test_a_state_that_does_not_fit_says_how(tmp_path, raft_state, change, said):
    path = tmp_path / "raft.pth"
    torch.save(change(raft_state), path)
    refused = refusal(load_raft, "raft-small", str(path), CPU)
    assert refused.startswith(f"{path}: does not hold the weights of torchvision's raft_small (")
    assert said in refused
    assert refused.endswith("; choose the flow.method that fits them")


def test_half_precision_weights_fit(tmp_path, raft_state):
    halves = {
        name: value.half() if value.is_floating_point() else value for name, value in raft_state.items()
    }
    save_file(halves, tmp_path / "raft.safetensors")
    loaded = load_raft("raft-small", str(tmp_path / "raft.safetensors"), CPU).state_dict()
    assert all(torch.equal(value, halves[name].to(value.dtype)) for name, value in loaded.items())


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_too_little_memory_is_not_blamed_on_the_file(error):
    said = "^x cannot be loaded .*; close other programs, or choose a smaller model$"
    with pytest.raises(WeightsError, match=said), loading("x", "download it again"):
        raise error


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A whole folder of each kind; not to be changed."""
    root = tmp_path_factory.mktemp("models")
    return {
        "dinov2": save_tiny_dinov2(root / "dinov2"),
        "zeroscope": save_tiny_zeroscope(root / "zeroscope"),
        "track4gen": save_tiny_track4gen(root / "track4gen"),
    }


@pytest.fixture
def model(models, tmp_path):
    """Copies a folder that a test may damage."""
    return lambda kind: Path(shutil.copytree(models[kind], tmp_path / kind))


def check(kind: str, folder: Path):
    if kind == "dinov2":
        image_transformers.check(Dinov2Config(model=str(folder)))
    elif kind == "zeroscope":
        zeroscope.check(ZeroscopeConfig(model=str(folder), block=1))
    else:
        check_diffusion(DiffusionConfig(model=str(folder)), "track4gen")


def load(kind: str, folder: Path):
    if kind == "dinov2":
        image_transformers.extract(FRAMES, Dinov2Config(model=str(folder)), device=CPU)
    elif kind == "zeroscope":
        zeroscope.extract(FRAMES, ZeroscopeConfig(model=str(folder), block=1), device=CPU, seed=0)
    else:
        load_pipeline(folder, torch.float32)


def configure(file: Path, **changes):
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


WHOLE, FROM = "must be a whole number from 1 to 1000000, got", "must be from 1 to 1000000, got"
LAYERS, SCALE = "must be from -1000 to 1000, got", "from 1e-09 to 1000000, got"
CHECKED = [
    ("dinov2", "config.json", {"num_hidden_layers": "2"}, f"num_hidden_layers {WHOLE} the text '2'"),
    ("dinov2", "config.json", {"num_hidden_layers": None}, f"num_hidden_layers {WHOLE} nothing"),
    ("dinov2", "config.json", {"num_hidden_layers": 10**9}, LAYERS),
    ("dinov2", "config.json", {"patch_size": [14, 14]}, f"patch_size {WHOLE} [14, 14]"),
    ("dinov2", "config.json", {"model_type": 5}, "is a 5, not a dinov2"),
    ("track4gen", "unet/config.json", {"block_out_channels": 5}, "must be a list, got 5"),
    (
        "track4gen",
        "unet/config.json",
        {"block_out_channels": [32, "x"]},
        f"block_out_channels {WHOLE} the text 'x'",
    ),
    ("track4gen", "unet/config.json", {"num_frames": 0}, f"num_frames {FROM} 0"),
    ("track4gen", "unet/config.json", {"layers_per_block": [10**9]}, LAYERS),
    ("track4gen", "refiner/config.json", {"channels": 64.0}, f"channels {WHOLE} 64.0"),
    ("track4gen", "vae/config.json", {"scaling_factor": None}, f"must be a number {SCALE} nothing"),
    ("track4gen", "vae/config.json", {"scaling_factor": float("nan")}, f"must be {SCALE} nan"),
    ("zeroscope", "scheduler/scheduler_config.json", {"num_train_timesteps": "x"}, f"{WHOLE} the text 'x'"),
    ("zeroscope", "text_encoder/config.json", {"num_hidden_layers": 10**9}, LAYERS),
]


@pytest.mark.parametrize(("kind", "file", "change", "said"), CHECKED)
def test_impossible_values_are_refused_before_anything_is_loaded(model, kind, file, change, said):
    folder = model(kind)
    configure(folder / file, **change)
    refused = refusal(check, kind, folder)
    assert said in refused
    assert str(folder / Path(file).parent) in refused


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b"{'a'", b"[]", b"\xff\xfe", b'{"a":' + b"1" * 10_000 + b"}"]
)
def test_a_config_that_is_no_config_is_refused(model, content):
    folder = model("dinov2")
    (folder / "config.json").write_bytes(content)
    assert f"{folder / 'config.json'} " in refusal(check, "dinov2", folder)


LOADED = [
    ("dinov2", "config.json", {"hidden_size": "32"}),
    ("dinov2", "config.json", {"hidden_size": 0}),
    ("dinov2", "config.json", {"hidden_act": "nope"}),
    ("dinov2", "config.json", {"dtype": "nope"}),
    ("dinov2", "config.json", {"id2label": 5}),
    ("track4gen", "unet/config.json", {"num_attention_heads": None}),
    ("track4gen", "scheduler/scheduler_config.json", {"beta_schedule": "nope"}),
    ("track4gen", "feature_extractor/preprocessor_config.json", {"image_mean": "x"}),
    ("zeroscope", "tokenizer/tokenizer_config.json", {"model_max_length": "x"}),
]


@pytest.mark.parametrize(("kind", "file", "change"), LOADED)
def test_whatever_a_library_raises_at_a_config_is_one_line(model, kind, file, change):
    folder = model(kind)
    configure(folder / file, **change)
    refused = refusal(load, kind, folder)
    assert f".model: {folder / Path(file).parent} cannot be loaded (" in refused
    assert refused.endswith("; download it again")


@pytest.mark.parametrize(
    "content",
    [Attack(Path("was-run")), 5, [1], {1: torch.zeros(1)}, TEXT, b""],
    ids=["attack", "number", "list", "numbered", "text", "empty"],
)
@pytest.mark.parametrize(("kind", "part"), [("dinov2", "."), ("zeroscope", "vae")])
def test_pickled_weights_of_a_model_are_not_run(model, kind, part, content, monkeypatch):
    folder = model(kind)
    monkeypatch.chdir(folder)
    (weights,) = (folder / part).glob("*.safetensors")
    weights.unlink()
    name = "pytorch_model.bin" if kind == "dinov2" else "diffusion_pytorch_model.bin"
    if isinstance(content, bytes):
        (folder / part / name).write_bytes(content)
    else:
        torch.save(content, folder / part / name)
    refused = refusal(load, kind, folder)
    assert f"{folder / part} cannot be loaded (" in refused
    assert not Path("was-run").exists()
    if isinstance(content, Attack):
        assert "which could run code; nothing was run" in refused


def test_an_attack_would_have_run(tmp_path):
    pickle.loads(pickle.dumps(Attack(tmp_path / "was-run")))
    assert (tmp_path / "was-run").exists()


@pytest.mark.parametrize("left", [0, 5, 50, 5000])
def test_cut_safetensors_are_refused_before_anything_is_loaded(model, left):
    file = model("dinov2") / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    assert f"{file.parent} cannot be loaded (model.safetensors: " in refusal(check, "dinov2", file.parent)
    assert not model_files.is_complete(file.parent, DINOV2)
