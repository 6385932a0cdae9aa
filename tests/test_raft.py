"""RAFT: the flows are torchvision's own, each frame is encoded once, errors say what to do."""

from __future__ import annotations

from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file
from torchvision.models.optical_flow import raft_large, raft_small
from torchvision.transforms._presets import OpticalFlow

from t4g_tracker.errors import WeightsError
from t4g_tracker.flow import raft
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.motion.fields import pairs_over_gaps

CPU = torch.device("cpu")


@pytest.fixture(scope="module", params=["raft-small", "raft-large"])
def model(request):
    torch.manual_seed(0)
    build = {"raft-small": raft_small, "raft-large": raft_large}[request.param]
    return build(weights=None).eval().requires_grad_(False)


def _neighbours(model, frames):
    """Flow between neighbours as the pipeline asks for it, one update, with ``model`` as the weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raft, "load_raft", lambda *_: model)
        estimator = FlowEstimator(FlowConfig(method="raft-small", updates=1), CPU)
        return estimator.both_ways(frames, pairs_over_gaps(len(frames), (1,)))


@pytest.fixture(scope="module")
def frames():
    return torch.randint(0, 256, (4, 3, 128, 136), dtype=torch.uint8, generator=torch.manual_seed(1))


def _plain_call(model, frames, first, second, updates):
    images = OpticalFlow()(frames[first][None], frames[second][None])
    with torch.no_grad():
        return model(*images, num_flow_updates=updates)[-1][0]


def test_every_pair_gets_the_flow_of_a_plain_call(model, frames):
    pairs = [(0, 1), (2, 1), (3, 0), (1, 3), (0, 1), (2, 2)]
    found = raft.raft_flow_pairs(model, frames, pairs, 2, CPU)
    assert found.dtype == torch.float16
    for flow, (first, second) in zip(found, pairs, strict=True):
        plain = _plain_call(model, frames, first, second, updates=2)
        assert plain.abs().max() > 0.1
        torch.testing.assert_close(flow, plain.half(), atol=1e-4, rtol=1e-3)


def test_unrounded_flow_of_an_encoded_pair_is_the_plain_call_to_1e4(model, frames):
    first, second = (raft._Encoding(model, raft._prepared(frames[t], CPU)) for t in (0, 1))
    plain = _plain_call(model, frames, 0, 1, updates=3)
    with torch.no_grad():
        torch.testing.assert_close(first.flow_to(second, 3)[0], plain, atol=1e-4, rtol=0)


def test_every_frame_is_encoded_once_and_at_most_two_are_kept(model, frames):
    seen = []
    alive = set()

    class Watched(raft._Encoding):
        def __init__(self, *args):
            super().__init__(*args)
            alive.add(id(self))
            seen.append(len(alive))

        def __del__(self):
            alive.discard(id(self))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raft, "_Encoding", Watched)
        calls = []
        hook = model.feature_encoder.register_forward_hook(lambda *_: calls.append(1))
        flow = _neighbours(model, frames)
        hook.remove()
    assert len(calls) == len(frames)
    assert max(seen) == 2
    assert flow.forward.shape == flow.backward.shape == (3, 2, 128, 136)


def test_forward_and_backward_are_told_apart(model, frames):
    flow = _neighbours(model, frames)
    forward = _plain_call(model, frames, 1, 2, updates=1)
    backward = _plain_call(model, frames, 2, 1, updates=1)
    torch.testing.assert_close(flow.forward[1], forward.half(), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(flow.backward[1], backward.half(), atol=1e-4, rtol=1e-3)
    assert (forward - backward).abs().max() > 0.1


def test_small_or_uneven_frames_are_padded_and_the_flow_cut_back(model):
    frames = torch.randint(0, 256, (2, 3, 61, 134), dtype=torch.uint8)
    found = raft.raft_flow_pairs(model, frames, [(0, 1)], 1, CPU)
    assert found.shape == (1, 2, 61, 134)
    padded = torch.nn.functional.pad(frames.float(), (0, 2, 0, 67), mode="replicate").to(torch.uint8)
    plain = _plain_call(model, padded, 0, 1, updates=1)
    torch.testing.assert_close(found[0], plain[:, :61, :134].half(), atol=1e-4, rtol=1e-3)


def test_progress_counts_pairs(model, frames):
    told = []
    raft.raft_flow_pairs(model, frames, [(0, 1), (1, 2)], 1, CPU, lambda *numbers: told.append(numbers))
    assert told == [(1, 2), (2, 2)]


def test_float_frames_are_refused(model, frames):
    with pytest.raises(ValueError, match="uint8"):
        raft.raft_flow_pairs(model, frames.float(), [(0, 1)], 1, CPU)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_load_from_a_file(tmp_path, suffix):
    path = tmp_path / f"flow{suffix}"
    state = raft_small(weights=None).state_dict()
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    loaded = raft.load_raft("raft-small", str(path), CPU)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert not loaded.training
    with pytest.raises(WeightsError, match="does not hold the weights of torchvision's raft_large"):
        raft.load_raft("raft-large", str(path), CPU)


def test_missing_or_broken_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match="no such file"):
        raft.load_raft("raft-small", str(tmp_path / "none.pth"), CPU)
    for name in ("broken.pth", "broken.safetensors"):
        for content in (b"not weights", b"hello world\n", b"adaptation: {steps: 3}\n", b"", b"\x80\x02."):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(WeightsError, match=f"{name}: cannot be loaded"):
                raft.load_raft("raft-small", str(tmp_path / name), CPU)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(WeightsError, match="does not hold the weights"):
        raft.load_raft("raft-small", str(tmp_path / "list.pth"), CPU)


def test_published_weights_come_from_the_cache_or_the_error_says_where_to_put_them(tmp_path, monkeypatch):
    def unreachable(*args, **kwargs):
        raise URLError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    cached = tmp_path / "checkpoints" / "raft_small_C_T_V2-01064c6d.pth"
    with pytest.raises(WeightsError) as error:
        raft.load_raft("raft-small", "", CPU)
    message = str(error.value)
    assert "download.pytorch.org" in message
    assert str(cached) in message
    assert "flow.method=dis" in message
    assert "\n" not in message
    cached.parent.mkdir(exist_ok=True)
    torch.save(raft_small(weights=None).state_dict(), cached)
    raft.load_raft("raft-small", "", CPU)
