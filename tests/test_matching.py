"""Matching: cost volume, sampling and soft-argmax against what can be worked out by hand."""

import pytest
import torch

from t4g_tracker.matching.cost_maps import (
    cell_vectors,
    cost_volume,
    peak_cells,
    sample_vectors,
    soft_argmax,
    top_peaks,
    window_offsets,
)


def test_soft_argmax_ignores_a_look_alike_outside_the_window():
    cost = torch.zeros(1, 32, 48)
    cost[0, 10, 12] = 1.00  # the point, at x=12, y=10
    cost[0, 10, 40] = 0.99  # its look-alike, far to the right
    found, peak = soft_argmax(cost, radius=3, temperature=0.02)
    torch.testing.assert_close(found, torch.tensor([[12.0, 10.0]]), atol=0.01, rtol=0)
    assert peak.item() == 1.0


def test_without_the_window_the_look_alike_would_drag_the_answer_away():
    cost = torch.zeros(1, 32, 48)
    cost[0, 10, 12], cost[0, 10, 40] = 1.00, 0.99
    found, _ = soft_argmax(cost, radius=100, temperature=0.02)
    assert found[0, 0] > 20


def test_two_equal_neighbours_share_the_answer():
    cost = torch.zeros(1, 9, 9)
    cost[0, 4, 3] = cost[0, 4, 4] = 1.0
    found, _ = soft_argmax(cost, radius=2, temperature=0.02)
    torch.testing.assert_close(found, torch.tensor([[3.5, 4.0]]), atol=0.01, rtol=0)


@pytest.mark.parametrize("peak", [(0, 0), (11, 0), (11, 7), (5, 7)])
def test_a_peak_at_the_border_is_not_pulled_inwards_by_cells_that_are_not_there(peak):
    cost = torch.full((1, 8, 12), -1.0)
    cost[0, peak[1], peak[0]] = 1.0
    found, _ = soft_argmax(cost, radius=3, temperature=0.05)
    torch.testing.assert_close(found, torch.tensor([peak]).float(), atol=1e-3, rtol=0)


def test_a_given_centre_votes_there_and_tells_that_place_s_similarity():
    cost = torch.zeros(1, 32, 48)
    cost[0, 10, 12], cost[0, 10, 40] = 1.00, 0.75
    found, peak = soft_argmax(cost, 3, 0.02, centre=torch.tensor([[39, 11]]))
    torch.testing.assert_close(found, torch.tensor([[40.0, 10.0]]), atol=0.01, rtol=0)
    assert peak.item() == 0.75


@pytest.mark.parametrize(
    ("shape", "radius", "temperature"), [((8, 8), 3, 0.1), ((1, 8, 8), 0, 0.1), ((1, 8, 8), 3, 0.0)]
)
def test_soft_argmax_refuses_what_it_cannot_mean(shape, radius, temperature):
    with pytest.raises(ValueError, match="must be"):
        soft_argmax(torch.zeros(shape), radius, temperature)


def test_soft_argmax_passes_a_gradient_that_moves_the_answer_the_right_way():
    cost = torch.zeros(1, 9, 9, requires_grad=True)
    found, _ = soft_argmax(cost + 0.0, 2, 0.5, centre=torch.tensor([[4, 4]]))
    found[0, 0].backward()
    assert cost.grad[0, 4, 5] > 0 > cost.grad[0, 4, 3]
    assert cost.grad[0, 4, 8] == 0


def test_the_best_cell_is_told_as_x_then_y():
    cost = torch.zeros(2, 5, 7)
    cost[0, 1, 6] = cost[1, 4, 0] = 1
    assert peak_cells(cost).tolist() == [[6, 1], [0, 4]]


def test_peaks_come_best_first_and_none_within_the_radius_of_a_better_one():
    cost = torch.zeros(2, 9, 16)
    cost[0, 2, 2] = 0.9
    cost[0, 2, 5] = 0.8  # 3 cells away, at the radius: not another peak
    cost[0, 5, 4] = 0.7  # 3.6 cells away: one
    cost[0, 7, 6] = 0.6  # 2.8 cells from the second peak
    cost[0, 1, 13] = 0.5
    cost[1, 8, 15], cost[1, 0, 0], cost[1, 4, 8] = 0.2, 0.3, 0.1
    peaks, similarity = top_peaks(cost, count=3, radius=3)
    assert peaks.tolist() == [[[2, 2], [4, 5], [13, 1]], [[0, 0], [15, 8], [8, 4]]]
    torch.testing.assert_close(similarity, torch.tensor([[0.9, 0.7, 0.5], [0.3, 0.2, 0.1]]))


@pytest.mark.parametrize(("edge", "opposite"), [((0, 4), (15, 3)), ((15, 4), (0, 5)), ((7, 0), (7, 8))])
def test_a_peak_at_one_border_leaves_the_opposite_border_alone(edge, opposite):
    cost = torch.zeros(1, 9, 16)
    cost[0, edge[1], edge[0]], cost[0, opposite[1], opposite[0]] = 0.9, 0.8
    peaks, similarity = top_peaks(cost, count=2, radius=3)
    assert peaks[0].tolist() == [list(edge), list(opposite)]
    torch.testing.assert_close(similarity, torch.tensor([[0.9, 0.8]]))


def test_a_grid_that_runs_out_of_cells_gives_peaks_without_similarity():
    cost = torch.arange(-12.0, 0.0).view(1, 3, 4)
    peaks, similarity = top_peaks(cost, count=4, radius=2)
    # -12 -11 -10  -9     The disc about -1 leaves -4, -8, -7, -12, -11 and -10,
    #  -8  -7  -6  -5     that about -4 leaves -11 and -10,
    #  -4  -3  -2  -1     and that about -10 leaves nothing.
    assert peaks[0, :3].tolist() == [[3, 2], [0, 2], [2, 0]]
    assert similarity.tolist() == [[-1.0, -4.0, -10.0, -torch.inf]]


def test_peaks_are_searched_in_a_copy():
    cost = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(0))
    before = cost.clone()
    top_peaks(cost, count=3, radius=2)
    assert torch.equal(cost, before)


def test_the_window_is_a_disc():
    offsets = {tuple(offset) for offset in window_offsets(2.0).tolist()}
    assert {(2, 0), (0, -2), (1, 1), (0, 0)} <= offsets
    assert not {(2, 1), (2, 2), (3, 0)} & offsets


def test_a_vector_sampled_at_a_cell_is_that_cell_s_and_costs_one_there():
    vectors = cell_vectors(torch.randn(3, 16, 5, 7, generator=torch.Generator().manual_seed(0)))
    frame, cells = torch.tensor([2, 0]), torch.tensor([[6.0, 4.0], [3.0, 0.0]])
    sampled = sample_vectors(vectors, frame, cells)
    torch.testing.assert_close(sampled, torch.stack([vectors[2, 4, 6], vectors[0, 0, 3]]))
    assert cost_volume(sampled, vectors[2])[0, 4, 6].item() == pytest.approx(1.0)
    assert cost_volume(sampled, vectors[2])[0].argmax() == 4 * 7 + 6


def test_between_cells_the_four_neighbours_are_mixed_bilinearly():
    vectors = torch.zeros(1, 3, 3, 4)
    for corner, (y, x) in enumerate([(1, 1), (1, 2), (2, 1), (2, 2)]):
        vectors[0, y, x, corner] = 1.0
    sampled = sample_vectors(vectors, torch.tensor([0]), torch.tensor([[1.25, 1.5]]))
    mixed = torch.tensor([[0.375, 0.125, 0.375, 0.125]])
    torch.testing.assert_close(sampled, mixed / mixed.norm())


def test_outside_the_grid_the_border_is_sampled():
    vectors = cell_vectors(torch.randn(1, 8, 4, 4, generator=torch.Generator().manual_seed(0)))
    sampled = sample_vectors(vectors, torch.tensor([0, 0]), torch.tensor([[-3.0, 2.0], [9.0, 9.0]]))
    torch.testing.assert_close(sampled, torch.stack([vectors[0, 2, 0], vectors[0, 3, 3]]))


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_a_grid_one_cell_wide_can_be_sampled(size):
    vectors = cell_vectors(torch.randn(1, 8, *size, generator=torch.Generator().manual_seed(0)))
    sampled = sample_vectors(vectors, torch.tensor([0]), torch.tensor([[0.0, 0.0]]))
    torch.testing.assert_close(sampled[0], vectors[0, 0, 0])


def test_similarity_does_not_see_the_length_of_features():
    values = torch.randn(2, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(cell_vectors(values), cell_vectors(values * 37.0))


def test_a_cell_without_features_matches_nothing():
    values = torch.randn(1, 8, 3, 3, generator=torch.Generator().manual_seed(0))
    values[:, :, 1, 1] = 0
    vectors = cell_vectors(values)
    assert cost_volume(vectors[0, 0, :1], vectors[0])[0, 1, 1] == 0
