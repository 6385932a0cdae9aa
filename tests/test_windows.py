"""Windows of frames that a step sees in place of whole ones: the same points, at the same places."""

import pytest
import torch
from fit_clip import fit_clip

import adaptation.windows
from adaptation.prepare import prepare_features
from adaptation.sampling import sample_pairs
from adaptation.settings import AdaptationConfig
from adaptation.state import start_state
from adaptation.stepper import Stepper
from adaptation.windows import Windows, window_size
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.matching.settings import MatchingConfig

CPU = torch.device("cpu")
SIZE, WINDOW = (320, 576), (224, 416)


@pytest.fixture(scope="module")
def clip(slide):
    return slide(8, SIZE, velocity=(20.0, -7.0))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("size", "side", "window"),
    [
        (SIZE, 0.7, WINDOW),
        (SIZE, 0.5, (192, 288)),
        (SIZE, 1.0, SIZE),
        ((576, 320), 0.7, (416, 224)),
        ((328, 568), 0.99, (320, 568)),
        ((64, 128), 0.7, (64, 128)),
        ((192, 1024), 0.1, (192, 192)),
    ],
)
def test_sides_are_whole_cells_of_the_coarsest_grid_or_those_of_the_frame(size, side, window):
    assert window_size(size, side) == window


@pytest.mark.parametrize("frames", [2, 3])
def test_pairs_are_the_same_points_counted_from_the_corners_of_their_windows(clip, frames):
    corners = []
    for seed in range(20):
        batch = sample_pairs(clip.trajectories, 8, frames, 32, generator(seed), window=(SIZE, WINDOW))
        corner = batch.windows.corner
        corners.append(corner)
        assert (corner % 32 == 0).all()
        assert (corner >= 0).all()
        assert (corner + torch.tensor([416, 224]) <= torch.tensor([576, 320])).all()
        for xy in (batch.source_xy, batch.target_xy):
            assert (xy >= 0).all()
            assert (xy <= torch.tensor([415, 223])).all()
        source, target = batch.source_xy + corner[batch.source], batch.target_xy + corner[batch.target]
        gap = batch.frames[batch.target] - batch.frames[batch.source]
        moved = source + gap[:, None] * torch.tensor([20.0, -7.0])
        torch.testing.assert_close(target, moved, atol=0.05, rtol=0)
    seen = torch.cat(corners).unique(dim=0)
    assert seen[:, 0].unique().tolist() == [0, 32, 64, 96, 128, 160]
    assert seen[:, 1].unique().tolist() == [0, 32, 64, 96]


def test_the_far_borders_are_seen_where_frames_are_no_multiple_of_the_coarsest_grid(slide):
    clip = slide(3, (328, 584), velocity=(1.0, 1.0))
    corners = [
        sample_pairs(clip.trajectories, 3, 2, 8, generator(seed), window=((328, 584), WINDOW)).windows.corner
        for seed in range(40)
    ]
    seen = torch.cat(corners)
    assert seen.amax(0).tolist() == [584 - 416, 328 - 224]
    assert (seen % 8 == 0).all()


def test_windows_of_a_pair_of_frames_follow_what_moves(clip):
    """What leaves the one window without leaving the frame is in the other: most points can be paired."""
    offsets = []
    for seed in range(30):
        batch = sample_pairs(clip.trajectories, 8, 2, 8, generator(seed), window=(SIZE, (192, 192)))
        moved = (batch.frames[1] - batch.frames[0]) * torch.tensor([20.0, -7.0])
        offsets.append(batch.windows.corner[1] - batch.windows.corner[0] - moved)
    free = torch.stack(offsets).abs() <= 32  # as near as corners come, unless the border is in the way
    assert free.float().mean() > 0.7


def test_windows_are_cut_where_they_lie():
    y, x = torch.meshgrid(torch.arange(320), torch.arange(576), indexing="ij")
    frames = torch.stack([x, y]).expand(2, 2, 320, 576)
    windows = Windows(torch.tensor([[96, 0], [160, 64]]), WINDOW)
    cut = windows.cut(frames)
    assert cut.shape == (2, 2, 224, 416)
    assert cut[:, :, 0, 0].tolist() == [[96, 0], [160, 64]]
    assert cut[:, :, -1, -1].tolist() == [[511, 223], [575, 287]]
    assert torch.equal(windows.cut(frames[:, :, ::8, ::8], 8), cut[:, :, ::8, ::8])


def test_a_step_reads_the_window_of_frames_and_of_their_features(clip):
    config = AdaptationConfig(width=16, pairs_per_frame=64, components=0)
    features = prepare_features(clip.features(stride_px=8), config.centre)
    state = start_state(features.channels, config, 0, CPU, generator())
    stepper = Stepper(state, features.values, clip.frames, config, MatchingConfig(), CPU)
    assert stepper.window == (SIZE, WINDOW)
    batch = sample_pairs(clip.trajectories, 8, 2, 64, generator(), window=stepper.window)
    inputs = stepper._gather(batch)
    assert inputs.frames.shape[-2:] == WINDOW
    assert inputs.frozen.shape[-2:] == (28, 52)
    x, y = batch.windows.corner[1].tolist()
    whole = features.values[batch.frames[1]]
    assert torch.equal(inputs.frozen[1], whole[:, y // 8 : y // 8 + 28, x // 8 : x // 8 + 52])
    assert torch.equal(inputs.frames[1], clip.frames[batch.frames[1]][:, y : y + 224, x : x + 416])


def test_with_a_foreground_steps_see_whole_frames(clip, monkeypatch):
    """A window may not hold it, and half of the pairs are to come from there."""
    asked = []

    def recorded(*args, **kwargs):
        asked.append(kwargs.get("window"))
        return sample_pairs(*args, **kwargs)

    monkeypatch.setattr("adaptation.loop.sample_pairs", recorded)
    config = AdaptationConfig(steps=2, width=16, pairs_per_frame=16, components=0, held_out=0.0, snapshots=())
    inside = torch.zeros(8, *SIZE, dtype=torch.bool)
    inside[:, :40, :40] = True
    for foreground in (None, inside):
        fit_clip(clip, clip.features(stride_px=8), config, foreground=foreground)
    assert asked == [(SIZE, WINDOW)] * 2 + [None] * 2


def test_an_adapter_learns_from_windows(slide, monkeypatch):
    monkeypatch.setattr(adaptation.windows, "LEAST_PX", 32)
    clip = slide(6)
    noise = FeatureGrid(torch.randn(6, 16, 8, 16, generator=generator()).half(), 8, 3.5, clip.size)
    config = AdaptationConfig(
        steps=160,
        width=32,
        pairs_per_frame=128,
        held_out=0.3,
        learning_rate=5e-3,
        components=0,
        snapshots=(),
        evaluate_every=160,
        precision="float32",
    )
    fitted = fit_clip(clip, noise, config)
    shares = [row["held_out_2px"] for row in fitted.history if "held_out_2px" in row]
    assert shares[0] < 0.1
    assert shares[-1] > shares[0] + 0.2  # of whole frames, which are larger than these


def test_features_whose_cells_are_not_eight_pixels_are_seen_whole(clip):
    config = AdaptationConfig(width=16, components=0)
    features = prepare_features(clip.features(stride_px=16), config.centre)
    state = start_state(features.channels, config, 0, CPU, generator())
    assert Stepper(state, features.values, clip.frames, config, MatchingConfig(), CPU).window is None
