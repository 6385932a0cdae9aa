"""Losses without flow: what a hand calculation gives, what they pull on, and when they begin."""

import copy
import dataclasses

import pytest
import torch
from fit_clip import fit_clip
from torch.nn.functional import avg_pool2d, cross_entropy, normalize

from adaptation.buddies import BestBuddies, mutual_best
from adaptation.consistency import StepFrames, cycle_loss, frozen_buddy_loss, refined_buddy_loss
from adaptation.objective import found_positions
from adaptation.sampling import Search
from adaptation.settings import AdaptationConfig, LossConfig
from t4g_tracker.errors import ConfigError, Interrupted
from t4g_tracker.matching.settings import MatchingConfig

CPU = torch.device("cpu")
HEIGHT, WIDTH = 6, 8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_step(frames=2, seed=1, foreground=None):
    values = torch.randn(frames, 16, HEIGHT, WIDTH, generator=generator(seed)).requires_grad_()
    return StepFrames(values, 5 + torch.arange(frames), 8, (8 * HEIGHT, 8 * WIDTH), foreground)


def buddies(pair, cells, weight):
    table = torch.tensor(pair), torch.tensor(cells, dtype=torch.int32), torch.tensor(weight).half()
    return BestBuddies(*table, frame_count=10, grid=(HEIGHT, WIDTH), stride_px=8.0)


def test_mined_buddies_are_told_from_all_other_cells_of_either_frame():
    step, (here, there) = random_step(), (11, 30)
    loss = frozen_buddy_loss(step, buddies([5 * 10 + 6], [[here, there]], [0.5]), generator())
    first, second = normalize(step.adapted.detach().flatten(2).mT, dim=-1)
    forward = cross_entropy((first[here] @ second.T / 0.1)[None], torch.tensor([there]))
    backward = cross_entropy((second[there] @ first.T / 0.1)[None], torch.tensor([here]))
    wanted = 4 * 0.5 * (forward + backward) / (2 * 700)  # with two frames, each of the four pairs is these
    torch.testing.assert_close(loss.detach(), wanted)


def test_frames_without_buddies_cost_nothing():
    assert frozen_buddy_loss(random_step(), buddies([7], [[0, 1]], [1.0]), generator()).item() == 0


@pytest.mark.parametrize("stride_px", [4, 8])
def test_a_step_down_the_gradient_makes_refined_buddies_more_alike(stride_px):
    step = dataclasses.replace(random_step(3), stride_px=stride_px)
    refined_buddy_loss(step, generator()).backward()

    def similarity(values):
        coarse = avg_pool2d(values.detach(), 8 // stride_px).flatten(2).mT
        return normalize(coarse[0], dim=1) @ normalize(coarse[1], dim=1).T

    before, after = similarity(step.adapted), similarity(step.adapted - 200 * step.adapted.grad)
    pairs = mutual_best(before)
    assert after[pairs].mean() > before[pairs].mean() + 0.01
    assert abs(after.mean() - before.mean()) < 0.01


def test_a_frame_all_of_whose_cells_differ_is_its_own_buddy_at_full_weight():
    step = random_step(1)
    cells = normalize(step.adapted.detach()[0].flatten(1).T, dim=1)
    each = cross_entropy(cells @ cells.T / 0.1, torch.arange(len(cells)), reduction="sum")
    loss = refined_buddy_loss(step, generator())
    torch.testing.assert_close(loss.detach(), 4 * 2 * 2 * each / (2 * 900))


def test_seven_in_ten_points_come_from_the_foreground():
    foreground = torch.zeros(2, 8 * HEIGHT, 8 * WIDTH, dtype=torch.bool)
    foreground[1, :, :40] = True
    step = random_step(foreground=foreground)
    xy = torch.cartesian_prod(torch.arange(64.0), torch.arange(48.0))
    chosen = xy[step.choose(1, xy, generator())]
    assert len(chosen.unique(dim=0)) == 256
    assert (chosen[:, 0] < 40).sum() == 179
    assert len(step.choose(0, xy, generator())) == 77  # none is inside in the other frame
    assert len(random_step().choose(0, xy, generator())) == 256


@pytest.fixture
def returning(slide):
    """Features of a sliding texture, disturbed so that matching does not return exactly."""
    clip = slide(3, (160, 288), velocity=(4.0, -2.0))
    values = clip.features(stride_px=4).values
    noise = torch.randn(values.shape, generator=generator())
    return StepFrames((values + 0.1 * noise).requires_grad_(), torch.arange(3), 4, clip.size)


def mean_cycle_error(step, matching):
    xy = torch.cartesian_prod(torch.arange(16.0, 260.0, 9.0), torch.arange(16.0, 140.0, 9.0))
    first, second = torch.zeros(len(xy), dtype=torch.int64), torch.ones(len(xy), dtype=torch.int64)
    there = found_positions(
        step.adapted, Search(source=first, target=second, source_xy=xy), step.stride_px, matching
    )
    back = found_positions(
        step.adapted, Search(source=second, target=first, source_xy=there), step.stride_px, matching
    )
    return (back - xy).norm(dim=1).clamp_max(1.35).mean().item()  # 4 px at 476x854


def test_following_the_cycle_loss_brings_points_back_to_where_they_began(returning):
    matching, random = MatchingConfig(), generator()
    before = mean_cycle_error(returning, matching)
    optimiser = torch.optim.Adam([returning.adapted], lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        cycle_loss(returning, matching, None, random).backward()
        optimiser.step()
    assert mean_cycle_error(returning, matching) < 0.9 * before


def test_points_that_do_not_return_teach_nothing(monkeypatch, returning):
    assert cycle_loss(returning, MatchingConfig(), None, generator()) > 0
    monkeypatch.setattr("adaptation.consistency.RETURN_PX", -1.0)
    loss = cycle_loss(returning, MatchingConfig(), None, generator())
    loss.backward()
    assert loss.item() == 0
    assert not returning.adapted.grad.any()


ALL = LossConfig(prior=0.01, frozen_buddies=0.1, refined_buddies=0.1, cycle=10.0)
SHORT = AdaptationConfig(
    steps=9,
    width=16,
    pairs_per_frame=16,
    snapshots=(5,),
    held_out=0.0,
    precision="float32",
    late_start=0.6,
    losses=ALL,
)
LATE = {"refined_buddies", "cycle"}


@pytest.fixture(scope="module")
def run(slide):
    clip = slide(6)
    known = buddies([0 * 6 + 4, 1 * 6 + 5], [[3, 9], [40, 41]], [1.0, 2.0])
    known = dataclasses.replace(known, frame_count=6, grid=(8, 16))

    def fit(config=SHORT, **kwargs):
        return fit_clip(clip, clip.features(stride_px=8), config, buddies=known, **kwargs)

    return fit


def test_late_losses_begin_after_their_share_of_the_steps(run):
    history = run().history
    names = [set(row["losses"]) for row in history[1:]]
    early = {"cross_entropy", "window_cross_entropy", "prior", "frozen_buddies"}
    assert names == [early] * 6 + [early | LATE] * 3  # 5.4 steps: the seventh is the first after them
    for row in history[1:]:
        total = sum(getattr(ALL, name) * value for name, value in row["losses"].items())
        assert row["loss"] == pytest.approx(total, rel=1e-5)


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.6, 6), (0.8, 8)])
def test_late_losses_can_begin_at_once_or_act_in_the_last_step_alone(share, first):
    config = dataclasses.replace(SHORT, late_start=share)
    assert [step for step in range(SHORT.steps) if config.losses_at(step).cycle] == list(range(first, 9))


def test_their_choices_too_resume_as_if_not_interrupted(run):
    whole, kept, steps = run(), [], []
    with pytest.raises(Interrupted):
        run(
            save=lambda state: kept.append(copy.deepcopy(state)),
            report=lambda step, row: steps.append(step),
            stop=lambda: len(steps) == 7,
        )
    assert run(resume=kept[-1]).history == whole.history


@pytest.mark.parametrize("share", [-0.1, 1.0, 1.5])
def test_a_share_with_which_late_losses_would_never_begin_is_refused(share):
    with pytest.raises(ConfigError, match=r"adaptation\.late_start"):
        AdaptationConfig(late_start=share)
