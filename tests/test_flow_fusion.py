"""Of several flows, each pixel gets the one under which the frames look alike."""

from __future__ import annotations

import pytest
import torch
from tiny_flow import shifted_pair

from t4g_tracker.flow.fusion import best_flow, colour_misfit


@pytest.fixture
def shifted():
    return shifted_pair()


def test_of_two_flows_each_pixel_gets_the_one_that_is_right_there(shifted):
    wrong = shifted.forward + torch.tensor([9.0, -4.0])[:, None, None]
    left = (torch.arange(192) < 96).expand(2, 144, 192)
    right = shifted.forward
    flows = torch.stack([torch.where(left, right, wrong), torch.where(left, wrong, right)])
    for candidates in (flows, flows.flip(0)):
        chosen = best_flow(shifted.first, shifted.second, candidates)
        miss = (chosen - shifted.forward).norm(dim=0)[16:-16, 16:-16]
        assert float((miss == 0).float().mean()) > 0.97  # at the seam windows hold something of both
    assert torch.equal(best_flow(shifted.first, shifted.second, flows[:1]), flows[0])


def test_frames_fit_where_the_flow_is_right_and_only_there(shifted):
    right = colour_misfit(shifted.first, shifted.second, shifted.forward)
    assert float(right[16:-16, 16:-16].max()) < 1e-3
    wrong = colour_misfit(shifted.first, shifted.second, shifted.forward + 6)
    assert 1 < float(wrong[16:-16, 16:-16].median()) <= 255


def test_misfit_is_a_mean_difference_of_colours_up_to_the_corners():
    black, white = torch.zeros(3, 20, 30, dtype=torch.uint8), torch.full((3, 20, 30), 255, dtype=torch.uint8)
    beyond = torch.full((2, 20, 30), 50.0)
    torch.testing.assert_close(colour_misfit(black, white, beyond * 0), torch.full((20, 30), 255.0))
    torch.testing.assert_close(colour_misfit(white, white, beyond), torch.zeros(20, 30), atol=1e-3, rtol=0)
    flows = torch.stack([beyond, -beyond]).half()
    assert torch.equal(best_flow(black, black, flows), flows[0])  # fits alike: the earlier one, in its type
