"""Similarity of points to cells, and its derivatives, which are written out by hand."""

import pytest
import torch
from torch.autograd import gradcheck
from torch.nn.functional import cosine_similarity, normalize

from t4g_tracker.matching.losses import cell_cross_entropy
from t4g_tracker.matching.similarity import frame_similarity, window_similarity


def _random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_frame_similarity_is_the_cosine_and_has_its_derivative():
    cells, queries = 3 * _random(2, 7, 5), normalize(_random(2, 4, 5, seed=1), dim=-1)
    expected = cosine_similarity(queries[:, :, None], cells[:, None], dim=-1)
    torch.testing.assert_close(frame_similarity(cells, queries), expected)
    assert gradcheck(frame_similarity, (cells.requires_grad_(), queries.requires_grad_()))


def test_window_similarity_is_the_cosine_and_has_its_derivative_also_where_windows_share_cells():
    cells, queries = 3 * _random(9, 5), normalize(_random(4, 5, seed=1), dim=-1)
    rows = torch.tensor([[0, 1, 2], [2, 1, 3], [8, 8, 8], [5, 6, 7]])
    expected = cosine_similarity(queries[:, None], cells[rows], dim=-1)
    torch.testing.assert_close(window_similarity(cells, queries, rows), expected)
    assert gradcheck(
        lambda *given: window_similarity(*given, rows), (cells.requires_grad_(), queries.requires_grad_())
    )


def test_similarity_to_a_cell_of_no_length_is_nothing_and_its_derivative_a_number():
    cells, queries = torch.zeros(4, 3, requires_grad=True), normalize(torch.ones(2, 3), dim=-1)
    whole = frame_similarity(cells[None], queries[None])
    part = window_similarity(cells, queries, torch.tensor([[0], [3]]))
    assert (whole == 0).all()
    assert (part == 0).all()
    (whole.sum() + part.sum()).backward()
    assert cells.grad.isfinite().all()


def test_window_similarity_of_half_precision_cells_is_computed_in_that_of_the_points():
    cells, queries = _random(50, 64).bfloat16(), normalize(_random(8, 64, seed=1).float(), dim=-1)
    rows = torch.arange(48).view(8, 6)
    cells.requires_grad_()
    similarity = window_similarity(cells, queries, rows)
    expected = cosine_similarity(queries[:, None], cells.detach().float()[rows], dim=-1)
    torch.testing.assert_close(similarity, expected)
    similarity.square().sum().backward()
    assert cells.grad.dtype == torch.bfloat16
    assert cells.grad[:48].ne(0).any()
    assert cells.grad[48:].eq(0).all()


@pytest.mark.parametrize("temperature", [0.05, 1.0])
def test_cross_entropy_has_its_derivative(temperature):
    similarity, target = 0.2 * _random(3, 12), torch.tensor([[0.0, 0.0], [1.3, 0.6], [3.0, 2.0]]).double()
    assert gradcheck(
        lambda given: cell_cross_entropy(given, target, (3, 4), temperature), (similarity.requires_grad_(),)
    )


def test_cross_entropy_of_half_precision_similarities_is_computed_in_that_of_the_target():
    similarity, target = (0.2 * _random(3, 12)).bfloat16().requires_grad_(), torch.tensor([[1.3, 0.6]] * 3)
    loss = cell_cross_entropy(similarity, target, (3, 4), 0.05)
    assert loss.dtype == torch.float32
    loss.sum().backward()
    assert similarity.grad.dtype == torch.bfloat16
