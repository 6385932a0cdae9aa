"""RAFT's loss, its two directions at once, and what a few steps do."""

from __future__ import annotations

import pytest
import torch
from tiny_flow import shifted_pair
from torchvision.models.optical_flow import raft_small

from t4g_tracker.training.flow.crops import PairsConfig, crop_pair
from t4g_tracker.training.flow.dataset import collate_pairs
from t4g_tracker.training.flow.objective import (
    FlowObjective,
    FlowObjectiveConfig,
    flow_both_ways,
    sequence_loss,
)

SMALL = PairsConfig(count=2, height=160, width=192, crop_height=128, crop_width=128, relit=0, erased=0)


@pytest.fixture
def shifted():
    return shifted_pair()


def test_later_updates_and_heavier_pixels_count_more():
    truth, weight = torch.zeros(1, 2, 1, 2), torch.tensor([[[1.0, 3.0]]])
    found = torch.tensor([[[[2.0, 0.0]], [[0.0, 0.0]]]])  # 2 px off in the first pixel, right in the second
    late = sequence_loss([truth, found], truth, weight, 0.8, 1.0)
    early = sequence_loss([found, truth], truth, weight, 0.8, 1.0)
    nothing = sequence_loss([truth, truth], truth, weight, 0.8, 1.0)
    torch.testing.assert_close(late - nothing, torch.tensor((2 - 0.01) / 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(early - nothing, 0.8 * (late - nothing))


def test_both_ways_are_two_plain_calls_of_the_model():
    torch.manual_seed(0)
    model = raft_small(weights=None).eval()
    first, second = (torch.rand(1, 3, 128, 136) * 2 - 1 for _ in range(2))
    with torch.no_grad():
        there, back = flow_both_ways(model, first, second, 2)[-1]
        torch.testing.assert_close(
            there, model(first, second, num_flow_updates=2)[-1][0], atol=1e-3, rtol=1e-3
        )
        torch.testing.assert_close(
            back, model(second, first, num_flow_updates=2)[-1][0], atol=1e-3, rtol=1e-3
        )


def test_a_few_steps_on_one_pair_lower_its_loss(shifted):
    torch.manual_seed(0)
    objective = FlowObjective(raft_small(weights=None), FlowObjectiveConfig(updates=1))
    batch = collate_pairs([crop_pair(shifted, SMALL, torch.Generator().manual_seed(0))])
    optimiser = torch.optim.AdamW(objective.parameters(), lr=1e-3)
    losses = []
    for _ in range(24):
        loss = objective(batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
