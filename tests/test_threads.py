"""Work spread over cores: the same results in the same order, and nothing of the caller's changed."""

import threading
import time

import pytest
import torch
from tiny_flow import shifted_pair

from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.motion.settings import MotionConfig, TrajectoriesConfig
from t4g_tracker.motion.trajectories import make_trajectories
from t4g_tracker.threads import AHEAD, in_threads


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items_whichever_ends_first(three_threads):
    def late(index):
        time.sleep(0.02 if index % 3 == 0 else 0)
        return index

    assert list(in_threads(late, range(20))) == list(range(20))


def test_each_thread_computes_on_one_core_and_the_caller_on_as_many_as_before(three_threads):
    seen = set(in_threads(lambda _: (torch.get_num_threads(), torch.is_grad_enabled()), range(9)))
    assert seen == {(1, False)}
    assert torch.get_num_threads() == 3
    assert torch.is_grad_enabled()
    later = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3]


def test_items_are_taken_a_few_ahead_of_the_results_that_are_used(three_threads):
    taken = []
    results = in_threads(lambda item: item, (taken.append(item) or item for item in range(1000)))
    next(results)
    assert len(taken) <= 3 * AHEAD + 1
    results.close()
    assert torch.get_num_threads() == 3


def test_an_error_of_a_thread_reaches_the_caller(three_threads):
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda item: 1 / item, [2, 1, 0, 1]))
    assert torch.get_num_threads() == 3


def test_gradients_of_the_caller_are_recorded_between_results():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    for _ in in_threads(lambda item: item, range(2)):
        assert torch.is_grad_enabled()
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    "settings", [{"method": "dis"}, {"method": "raft-mini", "refine": "best", "updates": 1}]
)
def test_flow_is_the_same_to_the_bit_on_any_number_of_threads(settings):
    pair = shifted_pair()
    frames = torch.stack([pair.first, pair.second, pair.first.roll(3, -1)])
    before, flows = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        estimator = FlowEstimator(FlowConfig(**settings), torch.device("cpu"))
        flows.append(estimator.pairs(frames, [(0, 1), (1, 0), (1, 2), (2, 1)]))
    torch.set_num_threads(before)
    if settings["method"] == "dis":
        assert torch.equal(*flows)
    else:  # convolutions add up in an order of their own
        torch.testing.assert_close(*flows, atol=0.05, rtol=0)


def test_trajectories_are_the_same_to_the_bit_on_any_number_of_threads(slide):
    size = (64, 128)
    flow = slide(12, size, (3.0, -2.0)).flow_over(1, 2, 4)
    before, made = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        made.append(make_trajectories(flow, 12, TrajectoriesConfig(start_every=2), size, MotionConfig()))
    torch.set_num_threads(before)
    one, three = made
    assert torch.equal(one.length, three.length)
    assert torch.equal(one.frame, three.frame)
    assert torch.equal(one.xy, three.xy)
