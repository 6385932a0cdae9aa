"""Trajectories stored end to end, with gaps, against a plain table of them."""

import pytest
import torch

from t4g_tracker.datatypes import Trajectories

FRAMES = 9


@pytest.fixture(scope="module")
def table():
    """A position for each trajectory and frame, NaN where it has none; some have gaps, some are whole."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(12, FRAMES, 2, generator=generator)
    shown = torch.rand(12, FRAMES, generator=generator) < 0.6
    shown[:, 3], shown[:, 5], shown[4], shown[:, FRAMES - 1] = True, True, True, False
    return torch.where(shown[..., None], xy, torch.nan)


@pytest.fixture(scope="module")
def stored(table):
    return pack(table)


def pack(table):
    shown = ~table[..., 0].isnan()
    return Trajectories(shown.sum(1), shown.nonzero()[:, 1].int(), table[shown])


def test_begin_first_and_owner_are_of_the_first_position_and_of_each(table, stored):
    shown = ~table[..., 0].isnan()
    assert torch.equal(stored.begin, shown.int().argmax(1))
    assert torch.equal(stored.xy[stored.first], table[torch.arange(12), stored.begin])
    assert torch.equal(stored.owner, shown.nonzero()[:, 0])


@pytest.mark.parametrize("frame_count", [FRAMES, FRAMES + 5])
def test_a_trajectory_is_present_where_it_has_a_position(table, stored, frame_count):
    padded = torch.cat([table, torch.full((12, 5, 2), torch.nan)], 1)
    assert torch.equal(stored.present(frame_count), ~padded[:, :frame_count, 0].isnan())


def test_positions_are_found_by_trajectory_and_frame(table, stored):
    which, frame = (~table[..., 0].isnan()).nonzero().unbind(1)
    order = torch.randperm(len(which), generator=torch.Generator().manual_seed(1))
    which, frame = which[order], frame[order]
    assert torch.equal(stored.at(which, frame), table[which, frame])


@pytest.mark.parametrize("keep", [[2, 3, 11], [7, 0], [5], []])
def test_a_subset_is_as_if_only_these_had_been_stored(table, stored, keep):
    chosen, wanted = stored.subset(torch.tensor(keep, dtype=torch.int64)), pack(table[keep])
    for part in ("length", "frame", "xy"):
        assert torch.equal(getattr(chosen, part), getattr(wanted, part))
    mask = torch.zeros(12, dtype=torch.bool)
    mask[keep] = True
    assert torch.equal(stored.subset(mask).xy, pack(table[mask]).xy)


def test_no_trajectories_are_present_nowhere():
    empty = Trajectories(*(torch.zeros(shape, dtype=torch.int64) for shape in (0, 0, (0, 2))))
    assert empty.present(5).shape == (0, 5)
    assert len(empty.subset(torch.zeros(0, dtype=torch.bool))) == 0
