"""A step of the optimisation never waits for the device, so that a GPU can replay it from a graph."""

import dataclasses

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import adaptation.stepper
from adaptation.captured import StepInputs
from adaptation.prepare import prepare_features
from adaptation.sampling import joined, sample_pairs
from adaptation.settings import AdaptationConfig, LossConfig
from adaptation.state import start_state
from adaptation.stepper import Stepper
from t4g_tracker.errors import TrackerError
from t4g_tracker.matching.settings import MatchingConfig

CPU = torch.device("cpu")
SMALL = AdaptationConfig(steps=60, width=16, pairs_per_frame=16, precision="float32")
WAITING = (  # they need a value on the host, make a shape of it, or copy a constant to the device
    "_local_scalar_dense",
    "bincount",
    "lift_fresh",
    "masked_select",
    "nonzero",
    "unique_dim",
    "_unique2",
)


class NothingWaits(TorchDispatchMode):
    """Refuses every operation that a GPU would have to be waited for."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in WAITING, f"{name} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            masks = [index for index in args[1] if index is not None and index.dtype == torch.bool]
            assert not masks, f"{name} by a mask waits for the device"
        return func(*args, **(kwargs or {}))


@pytest.fixture(scope="module")
def clip(slide):
    return slide(6)


def start(clip, config, **kwargs):
    """A stepper on a clip, and a function that samples its next batch."""
    generator = torch.Generator().manual_seed(0)
    features = prepare_features(clip.features(stride_px=8), config.centre)
    state = start_state(features.channels, config, 0, CPU, generator)
    stepper = Stepper(state, features.values, clip.frames, config, MatchingConfig(), CPU, **kwargs)

    def sample():
        return sample_pairs(clip.trajectories, 6, config.frames_per_step, config.pairs_per_frame, generator)

    return stepper, sample


@pytest.mark.parametrize("adapter", ["lite", "delta-cnn"])
@pytest.mark.parametrize("head", ["softmax", "cnn"])
def test_no_operation_of_a_step_waits_for_the_device(clip, adapter, head):
    losses = LossConfig(huber=1.0, prior=1.0)
    stepper, sample = start(clip, dataclasses.replace(SMALL, adapter=adapter, head=head, losses=losses))
    stepper.step(sample())  # what is kept from the first step on may wait in it
    batch = sample()
    with NothingWaits():
        stepper.step(batch)
    assert len(stepper.read()) == 2


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.sum().item(),
        lambda x: x[x > 0.5],
        lambda x: x.new_tensor([1.0]),
        lambda x: bool((x > 0).all()),
        lambda x: (x > 0).nonzero(),
    ],
)
def test_what_waits_is_noticed(waiting):
    with pytest.raises(AssertionError, match="waits for the device"), NothingWaits():
        waiting(torch.rand(3))


def test_losses_read_together_are_those_read_one_by_one(clip):
    one_by_one, sample = start(clip, SMALL)
    rows = []
    for _ in range(5):
        one_by_one.step(sample())
        assert one_by_one.full
        rows += one_by_one.read()
    together, sample = start(clip, SMALL)
    for _ in range(5):
        together.step(sample())
    assert together.read() == rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5]


def test_a_loss_that_is_no_number_names_its_step(clip):
    stepper, sample = start(clip, SMALL)
    stepper.step(sample())
    with torch.no_grad():
        stepper.adapter.last8.bias.fill_(float("nan"))
    stepper.step(sample())
    stepper.step(sample())
    with pytest.raises(TrackerError, match=r"diverged at step 2; lower adaptation\.learning_rate"):
        stepper.read()


class Replayed:
    """A CUDA graph as the CPU can have one: the recorded pass, run again on inputs that stay in place."""

    recorded = 0

    def __init__(self, run, example):
        type(self).recorded += 1
        self.run, self.inputs = run, example.clone()
        self.state = run.__self__.state
        self.step, self.random = self.state.step, self.state.generator.get_state()

    def __call__(self, inputs):
        for mine, given in zip(self.inputs.tensors, inputs.tensors, strict=True):
            mine.copy_(given)
        now, random = self.state.step, self.state.generator.get_state()
        self.state.step = self.step  # a graph goes on as when it was recorded, whatever the step is
        self.state.generator.set_state(self.random)
        result = self.run(self.inputs)
        self.state.step = now
        self.state.generator.set_state(random)
        return result


@pytest.mark.parametrize("adapter", ["lite", "delta-cnn"])
def test_steps_replayed_on_inputs_that_stay_in_place_are_plain_steps(clip, monkeypatch, adapter):
    """Whatever a step depends on besides weights is among its inputs, so 50 losses agree to the bit."""
    monkeypatch.setattr(adaptation.stepper, "CapturedPass", Replayed)
    monkeypatch.setattr(Replayed, "recorded", 0)
    config = dataclasses.replace(SMALL, adapter=adapter)
    curves = []
    for replay in (False, True):
        stepper, sample = start(clip, config)
        stepper._capture = replay
        for _ in range(50):
            stepper.step(sample())
        curves.append(stepper.read())
    assert curves[0] == curves[1]
    assert Replayed.recorded == 1


def test_a_graph_that_cannot_be_made_is_told_and_steps_go_on(clip, monkeypatch, caplog):
    def refused(run, example):
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(adaptation.stepper, "CapturedPass", refused)
    plain, sample = start(clip, SMALL)
    for _ in range(6):
        plain.step(sample())
    other, sample = start(clip, SMALL)
    other._capture = True
    for _ in range(6):
        other.step(sample())
    assert other.read() == plain.read()
    assert caplog.text.count("not permitted when stream is capturing") == 1


def test_inputs_are_cloned_into_memory_of_their_own(clip):
    stepper, sample = start(clip, SMALL)
    inputs = stepper._gather(sample())
    other = inputs.clone()
    assert isinstance(other, StepInputs)
    for mine, given in zip(other.tensors, inputs.tensors, strict=True):
        assert torch.equal(mine, given)
        assert mine.data_ptr() != given.data_ptr()
    assert other.batch.per_frame == SMALL.pairs_per_frame


def test_a_probe_of_joined_batches_finds_what_each_finds_alone(clip):
    stepper, sample = start(clip, SMALL)
    batches = [sample() for _ in range(5)]
    shares = [stepper.measure([batch])["held_out_2px"] for batch in batches]
    assert stepper.measure([joined(batches)])["held_out_2px"] == pytest.approx(sum(shares) / 5)
    assert stepper.measure(batches)["held_out_2px"] == pytest.approx(sum(shares) / 5)
    assert stepper.measure([]) == {}
