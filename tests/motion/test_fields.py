"""Points on flow fields: sampled between pixels, carried in pixels of any size, over the pairs listed."""

import pytest
import torch
from torch.nn.functional import grid_sample

from t4g_tracker.coordinates import to_sample_grid
from t4g_tracker.datatypes import FlowFields
from t4g_tracker.motion.fields import carry, distance, pairs_over_gaps, sample_flow


def test_flow_is_read_between_pixels_and_repeats_at_the_border():
    flow = torch.zeros(2, 8, 8)
    flow[0] = torch.arange(8.0)
    found = sample_flow(flow, torch.tensor([[2.25, 3.0], [-4.0, 3.0], [20.0, 3.0]]))
    torch.testing.assert_close(found[:, 0], torch.tensor([2.25, 0.0, 7.0]))


@pytest.mark.parametrize("size", [(7, 11), (1, 9), (9, 1), (1, 1)])
def test_flow_is_read_as_pytorch_reads_images(size):
    generator = torch.Generator().manual_seed(0)
    flow = torch.randn(2, *size, generator=generator).half()
    xy = torch.rand(200, 2, generator=generator) * torch.tensor([size[1], size[0]]) * 1.4 - 2
    grid = to_sample_grid(xy, size)
    wanted = grid_sample(flow[None].float(), grid[None, None], padding_mode="border", align_corners=False)
    torch.testing.assert_close(sample_flow(flow, xy), wanted[0, :, 0].T, atol=1e-5, rtol=0)


def test_distances_are_the_same_to_the_bit_however_positions_lie_in_memory():
    first, second = torch.randn(2, 1000, 2, generator=torch.Generator().manual_seed(0)) * 50
    wanted = torch.linalg.vector_norm(first - second, dim=-1)
    assert torch.equal(distance(first, second), wanted)
    assert torch.equal(distance(first.T.contiguous().T, second.T.contiguous().T), wanted)


def test_the_cycle_error_is_how_far_there_and_back_misses():
    flow = torch.zeros(1, 2, 8, 8)
    flow[:, 0] = torch.arange(8.0)
    fields = FlowFields.of_neighbours(flow, torch.zeros_like(flow))
    there, cycle_error = carry(fields, 0, 1, torch.tensor([[2.0, 3.0]]), (8, 8))
    assert there.tolist() == [[4.0, 3.0]]
    assert cycle_error.item() == pytest.approx(2.0)
    there, cycle_error = carry(fields, 1, 0, torch.tensor([[2.0, 3.0]]), (8, 8))
    assert there.tolist() == [[2.0, 3.0]]
    assert cycle_error.item() == pytest.approx(2.0)


def test_points_are_carried_in_pixels_of_the_size_given_whatever_size_flow_has():
    """Flow of 40x60: 3 px right and 2 down, half a pixel less back. In frames of 20x120, 6 and 1 px."""
    there = torch.tensor([3.0, 2.0]).view(1, 2, 1, 1).expand(1, 2, 40, 60)
    back = torch.tensor([-2.5, -2.0]).view(1, 2, 1, 1).expand(1, 2, 40, 60)
    xy = torch.tensor([[10.0, 4.0], [90.5, 15.25]])
    found, cycle_error = carry(FlowFields.of_neighbours(there, back), 0, 1, xy, (20, 120))
    torch.testing.assert_close(found, xy + torch.tensor([6.0, 1.0]))
    torch.testing.assert_close(cycle_error, torch.tensor([1.0, 1.0]))


def test_every_pair_over_the_gaps_is_listed_once():
    pairs = pairs_over_gaps(7, (1, 4, 9))
    assert sorted(pairs) == [(t, t + gap) for t in range(6) for gap in (1, 4) if t + gap < 7]
    assert [second for _, second in pairs] == sorted(second for _, second in pairs)
