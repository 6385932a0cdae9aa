"""The batch that memory holds."""

from __future__ import annotations

import pytest
import torch
from tiny_training import Fit, Lines, stack
from torch.optim.swa_utils import AveragedModel

from t4g_tracker.training.loop.fitting import fitting_batch, kept_bytes, largest_batch, peaks


@pytest.mark.parametrize(("room", "batch"), [(0, 1), (14, 1), (15, 2), (44, 4), (45, 8), (1e9, 64)], ids=str)
def test_the_largest_power_of_two_that_fits(room, batch):
    """One item takes 10, every further one 5."""
    assert largest_batch(10, 15, room) == batch


def test_a_batch_that_takes_no_more_memory_is_the_largest():
    assert largest_batch(10, 10, 10) == 64


def test_where_two_items_do_not_fit_one_is_taken():
    def peak(count: int) -> float:
        if count > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return 10

    assert largest_batch(*peaks(peak), room=1e12) == 1
    assert peaks(lambda count: 10 * count) == (10, 20)


def test_what_is_kept_is_what_the_optimiser_and_the_average_hold():
    objective = Fit()
    objective.norm.requires_grad_(False)  # weights that are not trained are averaged all the same
    optimiser = torch.optim.AdamW(objective.line.parameters())
    objective(stack([Lines()[0, 0], Lines()[1, 0]]))["loss"].backward()
    optimiser.step()
    averaged = AveragedModel(objective, use_buffers=True).module
    moments = [value for state in optimiser.state.values() for value in state.values() if value.dim()]
    held = [*moments, *averaged.parameters(), *averaged.buffers()]
    assert kept_bytes(objective) == sum(value.numel() * value.element_size() for value in held)


def test_on_a_cpu_it_is_two_and_nothing_is_computed():
    objective = Fit()
    assert fitting_batch(objective, Lines(), stack, torch.device("cpu"), torch.float32) == 2
    assert int(objective.norm.num_batches_tracked) == 0
