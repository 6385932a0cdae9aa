"""Best buddies: mutual matches of frozen features, where flow does not reach, weighed by their rivals."""

import pytest
import torch

from adaptation.buddies import ambiguity_weight, box_overlap, likeness_weight, mine_buddies, mutual_best
from adaptation.prepare import prepare_features
from t4g_tracker.config import read_settings
from t4g_tracker.datatypes import Trajectories
from t4g_tracker.fitted import fit
from t4g_tracker.pipeline import Config

CPU = torch.device("cpu")


def trajectories(*runs):
    """Trajectories from (first frame, positions) each."""
    length = torch.tensor([len(xy) for _, xy in runs])
    rows = torch.tensor([point for _, xy in runs for point in xy]).float()
    frames = [torch.arange(start, start + len(xy), dtype=torch.int32) for start, xy in runs]
    return Trajectories(length, torch.cat(frames), rows)


def test_buddies_are_each_other_s_best():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.8, 0.3, 0.4], [0.1, 0.2, 0.7]])
    rows, columns = mutual_best(similarity)  # the second row's best prefers the first
    assert rows.tolist() == [0, 2]
    assert columns.tolist() == [0, 2]


def test_boxes_overlap_by_intersection_over_union():
    centres = torch.tensor([[0.0, 0.0], [5.0, 0.0], [5.0, 5.0], [30.0, 0.0]])
    wanted = torch.tensor([1, 50 / 150, 25 / 175, 0])
    torch.testing.assert_close(box_overlap(centres, 10.0)[0], wanted)


def one_pair(rival_there, rival_here):
    """Weight of the buddies (cell 0, cell 0), with a rival in cell 3 of either frame; cell 1 is beside it."""
    similarity = torch.full((4, 4), 0.1)
    similarity[0, 0], similarity[0, 1] = 0.8, 0.79
    similarity[0, 3], similarity[3, 0] = rival_there, rival_here
    one_match = torch.eye(4, dtype=torch.bool)
    one_match[0, 1] = one_match[1, 0] = True
    cell = torch.tensor([0])
    return ambiguity_weight(similarity, cell, cell, one_match).item()


@pytest.mark.parametrize(
    ("rival_there", "rival_here", "wanted"),
    [(0.1, 0.1, 1.0), (0.631, 0.1, 0.5), (0.1, 0.631, 0.5), (0.79, 0.1, 0.0047), (0.1, 0.8, 0.0033)],
)
def test_a_rival_in_either_frame_takes_the_weight_and_a_neighbour_does_not(rival_there, rival_here, wanted):
    assert one_pair(rival_there, rival_here) == pytest.approx(wanted, abs=0.01)


def test_what_is_more_alike_weighs_more_and_opposites_nothing():
    torch.testing.assert_close(
        likeness_weight(torch.tensor([1.0, 0.5, -1.0])), torch.tensor([2.0, 0.25, 0.0])
    )


@pytest.fixture(scope="module")
def mined(slide):
    """Of a texture that moves by one cell a frame, with flow from the first frame to the second alone."""
    clip = slide(3, velocity=(8.0, 0.0))
    known = trajectories((0, [(60.0, 30.0), (68.0, 30.0)]))
    return mine_buddies(prepare_features(clip.features(stride_px=8), True), known, CPU)


def test_no_buddies_are_kept_where_flow_reaches(mined):
    assert len(mined.between(0, 1)[2]) == 0
    assert len(mined.between(1, 2)[2]) > 20
    assert len(mined.between(0, 2)[2]) > 20


def test_buddies_of_a_sliding_texture_lie_where_it_has_slid(mined):
    for first, second, wanted in ((0, 2, 16.0), (2, 0, -16.0), (1, 2, 8.0)):
        here, there, weight = mined.between(first, second)
        right = ((there - here) - torch.tensor([wanted, 0.0])).norm(dim=1) < 0.01
        assert weight[right].sum() > 0.9 * weight.sum()


def test_buddies_are_the_same_seen_from_either_frame(mined):
    here, there, weight = mined.between(0, 2)
    back = mined.between(2, 0)
    assert all(torch.equal(one, other) for one, other in zip(back, (there, here, weight), strict=True))


def test_without_a_trajectory_in_a_frame_flow_reaches_nothing(slide):
    clip = slide(3, velocity=(8.0, 0.0))
    all_over = clip.trajectories
    features = prepare_features(clip.features(stride_px=8), True)
    few = len(mine_buddies(features, all_over, CPU).weight)
    none = all_over.subset(torch.zeros(len(all_over), dtype=torch.bool))
    assert few < 0.5 * len(mine_buddies(features, none, CPU).weight)


def test_buddies_are_mined_only_for_the_loss_that_reads_them_and_then_cached(slide, tiny_settings, tmp_path):
    clip = slide(4)

    def stages(*more):
        settings = [*tiny_settings, "flow.method=dis", "adaptation.steps=2", *more]
        fitted = fit(clip.video, read_settings(Config(), None, settings), cache=tmp_path)
        return fitted.run.log, fitted.stages.adaptation.value.history[-1]["losses"]

    log, losses = stages()
    assert "buddies" not in log.stages
    assert "frozen_buddies" not in losses
    log, losses = stages("adaptation.losses.frozen_buddies=0.1")
    assert "buddies" in log.stages
    assert losses["frozen_buddies"] >= 0
    log, _ = stages("adaptation.losses.frozen_buddies=0.2")
    assert "buddies" in log.cached
