"""Losses: zero where they should be, and elsewhere what a hand calculation gives."""

import math

import pytest
import torch

from adaptation.losses import prior
from adaptation.objective import batch_losses, found_positions
from adaptation.sampling import PairBatch, Search
from adaptation.settings import LossConfig
from t4g_tracker.errors import ConfigError
from t4g_tracker.matching.cost_maps import window_offsets
from t4g_tracker.matching.losses import cell_cross_entropy, huber, window_cross_entropy
from t4g_tracker.matching.settings import MatchingConfig

SIZE = (40, 72)


def one(*values):
    return torch.tensor([values], dtype=torch.float32)


def test_huber_is_zero_at_the_target_and_only_there():
    target = one(10.0, 20.0)
    assert huber(target, target, SIZE).item() == 0
    assert huber(target + 0.1, target, SIZE).item() > 0


@pytest.mark.parametrize(
    ("off_cells", "wanted"),
    [
        ((0.36, 0.0), 0.5 * 0.01**2),  # 0.36 cells of 72 are 0.01 of half the frame: square
        ((0.0, 0.2), 0.5 * 0.01**2),
        ((36.0, 0.0), (1 - 0.5 / 32) / 32),  # half the frame: linear
        ((0.36, 20.0), 0.5 * 0.01**2 + (1 - 0.5 / 32) / 32),  # x and y added
        ((36 / 32, 0.0), 0.5 / 32**2),  # where the two meet
    ],
)
def test_huber_is_square_near_the_target_and_linear_far_from_it(off_cells, wanted):
    target = one(30.0, 15.0)
    assert huber(target + one(*off_cells), target, SIZE).item() == pytest.approx(wanted, rel=1e-4)


def test_a_sure_map_at_the_target_costs_next_to_nothing_and_elsewhere_a_lot():
    similarity = torch.zeros(2, 6 * 8)
    similarity[:, 3 * 8 + 5] = 1.0
    loss = cell_cross_entropy(similarity, torch.tensor([[5.0, 3.0], [1.0, 1.0]]), (6, 8), 0.05)
    assert loss[0] < 1e-4
    assert loss[1].item() == pytest.approx(20, abs=0.01)


def test_a_map_that_knows_nothing_costs_the_logarithm_of_its_cells():
    loss = cell_cross_entropy(torch.zeros(1, 48), one(2.25, 3.5), (6, 8), 0.05)
    assert loss.item() == pytest.approx(math.log(48), rel=1e-5)


def test_a_target_between_cells_is_shared_by_its_neighbours():
    similarity = torch.zeros(1, 4)  # 2 x 2 cells
    similarity[0, 0], similarity[0, 1] = 0.3, 0.1
    total = math.log(math.exp(0.3) + math.exp(0.1) + 2)
    wanted = 0.75 * 0.8 * (total - 0.3) + 0.25 * 0.8 * (total - 0.1) + 0.2 * total
    loss = cell_cross_entropy(similarity, one(0.25, 0.2), (2, 2), temperature=1.0)
    assert loss.item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("target", [(2.0, 3.0), (2.25, 3.5), (0.0, 0.0), (7.0, 5.0), (6.9, 4.99)])
def test_no_map_costs_less_than_the_one_whose_mean_is_the_target(target):
    cells = torch.stack(torch.meshgrid(torch.arange(8.0), torch.arange(6.0), indexing="xy"), -1).view(-1, 2)
    share = (1 - (cells - torch.tensor(target)).abs()).clamp_min(0).prod(-1)
    torch.testing.assert_close((share[:, None] * cells).sum(0), torch.tensor(target))
    best = cell_cross_entropy((share + 1e-9).log()[None], one(*target), (6, 8), 1.0)
    generator = torch.Generator().manual_seed(0)
    other = (share + 0.2 * torch.rand(50, 48, generator=generator)).log()
    assert (cell_cross_entropy(other, one(*target).expand(50, 2), (6, 8), 1.0) > best).all()


def test_a_target_beyond_the_grid_counts_as_at_its_border():
    similarity = torch.randn(1, 48, generator=torch.Generator().manual_seed(0))
    beyond = cell_cross_entropy(similarity, one(9.0, -2.0), (6, 8), 0.1)
    torch.testing.assert_close(beyond, cell_cross_entropy(similarity, one(7.0, 0.0), (6, 8), 0.1))


def test_a_window_over_the_whole_grid_costs_as_the_grid_does():
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(3, 48, generator=generator)
    target = torch.rand(3, 2, generator=generator) * torch.tensor([7.0, 5.0])
    cells = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(6), indexing="xy"), -1).view(1, 48, 2)
    torch.testing.assert_close(
        window_cross_entropy(similarity, cells.expand(3, 48, 2), target, 0.1),
        cell_cross_entropy(similarity, target, (6, 8), 0.1),
    )


def test_cells_that_are_not_there_count_neither_for_the_map_nor_for_the_target():
    cells = window_offsets(2.0)[None]
    similarity = torch.randn(1, cells.shape[1], generator=torch.Generator().manual_seed(0))
    missing = cells[..., 0] < 0  # beyond the left border
    target = one(-0.25, 0.5)  # a quarter of it falls to the missing column
    cut = window_cross_entropy(similarity.masked_fill(missing, float("-inf")), cells, target, 0.1)
    there = ~missing[0]
    torch.testing.assert_close(cut, window_cross_entropy(similarity[:, there], cells[:, there], target, 0.1))
    assert cut.isfinite().all()


def test_missing_cells_pass_no_gradient_and_break_none():
    cells = window_offsets(2.0)[None]
    similarity = torch.zeros(1, cells.shape[1], requires_grad=True)
    missing = cells[..., 0] < 0
    loss = window_cross_entropy(similarity.masked_fill(missing, float("-inf")), cells, one(0.5, 0.5), 0.1)
    loss.sum().backward()
    assert similarity.grad.isfinite().all()
    assert not similarity.grad[missing].any()
    assert similarity.grad[~missing].any()


def test_the_prior_is_zero_exactly_where_nothing_changed():
    frozen = torch.randn(1, 8, 2, 3, generator=torch.Generator().manual_seed(0))
    changed = frozen.clone()
    changed[:, :, 1, 2] += 0.5
    loss = prior(changed, frozen)
    assert loss[0, 1, 2] > 0.01
    loss[0, 1, 2] = 0
    torch.testing.assert_close(loss, torch.zeros_like(loss), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("adapted", "wanted"),
    [((2.0, 0.0), 1.0), ((0.5, 0.0), 0.5), ((0.0, 1.0), 1.0), ((-1.0, 0.0), 2.0), ((0.0, 3.0), 3.0)],
)
def test_the_prior_adds_the_turn_and_the_growth(adapted, wanted):
    frozen = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    assert prior(torch.tensor(adapted).view(1, 2, 1, 1), frozen).item() == pytest.approx(wanted)


@pytest.fixture
def batch(slide):
    """Pairs of a sliding texture's points between two frames, and features that match them perfectly."""
    clip = slide(2, velocity=(8.0, -4.0))
    source_xy = torch.tensor([[30.0, 30.0], [60.5, 40.0]])
    there = clip.move(source_xy, torch.ones(2))
    pairs = PairBatch(
        frames=torch.tensor([0, 1]),
        source=torch.tensor([1, 1, 0, 0]),
        target=torch.tensor([0, 0, 1, 1]),
        source_xy=torch.cat([there, source_xy]),
        target_xy=torch.cat([source_xy, there]),
    )
    return clip.features(stride_px=4).values, pairs


def test_good_features_find_the_pairs_and_cost_little(batch):
    features, pairs = batch
    found = found_positions(features, pairs, 4, MatchingConfig())
    assert (found - pairs.target_xy).norm(dim=-1).max() < 2
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(0))
    config = LossConfig(huber=1.0, cross_entropy=1.0, window_cross_entropy=1.0, prior=1.0)
    good, bad = (
        batch_losses(values, values, pairs, 4, config, MatchingConfig()) for values in (features, noise)
    )
    assert good["prior"].item() == pytest.approx(0, abs=1e-6)
    for name in ("huber", "cross_entropy", "window_cross_entropy"):
        assert good[name] < bad[name]


def test_pairs_need_not_be_shared_evenly_by_the_frames(batch):
    features, pairs = batch
    found = found_positions(features, pairs, 4, MatchingConfig())
    for rows in ([0, 2, 3], [2, 3], [1]):
        search = Search(source=pairs.source[rows], target=pairs.target[rows], source_xy=pairs.source_xy[rows])
        torch.testing.assert_close(found_positions(features, search, 4, MatchingConfig()), found[rows])


def test_every_loss_passes_a_gradient_to_the_features(batch):
    features, pairs = batch
    for name in ("huber", "cross_entropy", "window_cross_entropy"):
        values = features.clone().requires_grad_()
        only = LossConfig(**{"huber": 0.0, "cross_entropy": 0.0, "window_cross_entropy": 0.0} | {name: 1.0})
        losses = batch_losses(values, features, pairs, 4, only, MatchingConfig())
        assert set(losses) == {name}
        losses[name].backward()
        assert values.grad.isfinite().all()
        assert values.grad.any()


def test_weights_out_of_range_are_refused():
    with pytest.raises(ConfigError, match=r"adaptation\.losses\.huber"):
        LossConfig(huber=-1.0)


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {"window_radius_px": 0.0}])
def test_shapes_of_cost_maps_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=rf"matching\.{next(iter(settings))}"):
        MatchingConfig(**settings)
