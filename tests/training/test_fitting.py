"""The batch that memory holds."""

from __future__ import annotations

import pytest
import torch
from tiny_training import Fit, Lines, stack

from t4g_tracker.training.loop.fitting import fitting_batch, largest_batch


@pytest.mark.parametrize(("room", "batch"), [(0, 1), (14, 1), (15, 2), (44, 4), (45, 8), (1e9, 64)], ids=str)
def test_the_largest_power_of_two_that_fits(room, batch):
    """One item takes 10, every further one 5."""
    assert largest_batch(10, 15, room) == batch


def test_a_batch_that_takes_no_more_memory_is_the_largest():
    assert largest_batch(10, 10, 10) == 64


def test_on_a_cpu_it_is_two_and_nothing_is_computed():
    objective = Fit()
    assert fitting_batch(objective, Lines(), stack, torch.device("cpu"), torch.float32) == 2
    assert int(objective.norm.num_batches_tracked) == 0
