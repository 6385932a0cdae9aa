"""Stages run when their value is first needed, once, and what they leave is found by the next run."""

import contextlib
from dataclasses import dataclass
from threading import Barrier, Event, Thread

import pytest
import torch
from torch import Tensor

from t4g_tracker.errors import Interrupted
from t4g_tracker.stage_cache import Node, Run, Stages
from t4g_tracker.storage.cache import Cache

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Doubled:
    values: Tensor


@dataclass(frozen=True)
class Settings:
    factor: int = 2


@pytest.fixture
def calls():
    return []


@pytest.fixture
def doubled(calls, tmp_path):
    """Makes the stage that doubles a node's values, in a run with a cache of its own."""

    def make(node, settings=Settings(), cache=True, fresh=False, **facts):
        run = Run(CPU, cache=Cache.open(tmp_path, fresh) if cache else None)

        def compute(settings, controls, values, **facts):
            calls.append("doubled")
            controls.checkpoint.save({"half": values})
            return Doubled(values * settings.factor)

        stages = Stages(run, run.cache)
        return stages.stage(
            "doubled", Doubled, compute, settings=settings, inputs={"values": node}, **facts
        ), run

    return make


def source(calls, values=3.0, key="three"):
    return Node(key, lambda: calls.append("source") or torch.tensor(values))


def test_nothing_runs_before_it_is_needed_and_nothing_twice(doubled, calls):
    stage, _ = doubled(source(calls))
    assert calls == []
    assert float(stage.value.values) == float(stage.value.values) == 6
    assert calls == ["source", "doubled"]


def test_what_several_cached_stages_of_one_name_took_adds_up(tmp_path):
    def run_both():
        run = Run(CPU, cache=Cache.open(tmp_path, fresh=False))
        for number, seconds in ((1.0, 60.0), (2.0, 30.0)):
            Stages(run, run.cache).stage(
                "flow",
                Doubled,
                lambda settings, controls, values: Doubled(values),
                settings=Settings(),
                inputs={"values": source([], number, f"{number}")},
                seconds=lambda _, seconds=seconds: seconds,
            ).ensure()
        return run.log.cached

    assert run_both() == {}
    assert run_both() == {"flow": 90.0}


def test_a_cached_stage_does_not_need_its_inputs(doubled, calls):
    doubled(source(calls))[0].ensure()
    calls.clear()
    stage, run = doubled(source(calls))
    assert stage.cached
    assert float(stage.value.values) == 6
    assert calls == []
    assert list(run.log.cached) == ["doubled"]


@pytest.mark.parametrize("change", ["settings", "input", "fact", "weights"])
def test_a_change_is_computed(doubled, calls, change):
    doubled(source(calls), seed=0)[0].ensure()
    key = "other" if change == "input" else "three"
    settings = Settings(factor=5) if change == "settings" else Settings()
    facts = {"seed": 1} if change == "fact" else {"seed": 0}
    if change == "weights":
        facts["weights"] = "others"
    stage, _ = doubled(source(calls, key=key), settings, **facts)
    assert not stage.cached
    calls.clear()
    assert float(stage.value.values) == 3 * settings.factor
    assert "doubled" in calls


def test_without_a_cache_nothing_is_written(doubled, calls, tmp_path):
    assert float(doubled(source(calls), cache=False)[0].value.values) == 6
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_goes_when_its_stage_is_done(doubled, calls, tmp_path):
    doubled(source(calls))[0].ensure()
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == ["doubled"]


def test_a_checkpoint_that_a_killed_run_left_beside_its_result_goes_too(doubled, calls, tmp_path):
    doubled(source(calls))[0].ensure()
    (entry,) = tmp_path.iterdir()
    key = entry.stem.partition("-")[2]
    Cache(tmp_path).save("checkpoint", key, {"half": 1})
    doubled(source(calls))[0].ensure()
    assert list(tmp_path.iterdir()) == [entry]


def test_a_fresh_run_computes_anew_once_and_whoever_resumes_it_never_finds_what_was_there_before(
    doubled, calls, tmp_path
):
    doubled(source(calls))[0].ensure()
    (entry,) = tmp_path.iterdir()
    Cache(tmp_path).save("checkpoint", entry.stem.partition("-")[2], {"half": 1})
    calls.clear()
    fresh, run = doubled(source(calls), fresh=True)
    assert not fresh.cached
    assert not list(tmp_path.iterdir())  # and so not found if the fresh run is killed here
    fresh.ensure()
    assert calls == ["source", "doubled"]
    again = Stages(run, run.cache).stage(
        "doubled", Doubled, None, settings=Settings(), inputs={"values": source(calls)}
    )
    assert again.cached
    assert float(again.value.values) == 6
    assert doubled(source(calls))[0].cached
    assert calls == ["source", "doubled"]


@pytest.mark.parametrize("saved", [False, True])
def test_a_ctrl_c_says_whether_the_stage_will_resume_or_start_over(tmp_path, saved):
    def interrupted(settings, controls):
        if saved:
            controls.checkpoint.save({"half": 1})
        raise KeyboardInterrupt

    stages = Stages(Run(CPU), Cache(tmp_path))
    stage = stages.stage("slow", Doubled, interrupted, settings=Settings(), inputs={})
    with pytest.raises(Interrupted, match="interrupted in the stage slow") as caught:
        stage.ensure()
    assert caught.value.then == ("resumes from the last checkpoint" if saved else "starts this stage over")


def test_a_derived_value_has_a_key_of_its_input_and_its_facts(calls):
    def scaled(values, by):
        return values * by

    stages = Stages(Run(CPU), None)

    def node(key, by):
        return stages.derived("scaling", scaled, source(calls, key=key), by=by)

    nodes = [node("a", 2), node("b", 2), node("a", 3)]
    assert len({made.key for made in nodes}) == 3
    assert node("a", 2).key == nodes[0].key
    assert [float(made.value) for made in nodes] == [6, 6, 9]
    assert "scaling" in stages.run.log.stages


def test_threads_that_need_a_value_at_once_compute_it_once(calls):
    begun, together = Event(), Barrier(5)

    def slow():
        calls.append("slow")
        assert begun.wait(60)
        return 7

    node, found = Node("key", slow), []

    def ask():
        together.wait()
        found.append(node.value)

    threads = [Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    together.wait()
    begun.set()
    for thread in threads:
        thread.join()
    assert (found, calls) == ([7] * 4, ["slow"])


def test_only_a_stage_that_asks_for_it_turns_ctrl_c_into_a_flag(tmp_path):
    entered = []

    @contextlib.contextmanager
    def stop():
        entered.append(1)
        yield lambda: False

    def plain(settings, controls):
        return Doubled(torch.ones(1))

    def polling(settings, controls):
        with controls.stop() as asked:
            return Doubled(torch.full((1,), float(asked())))

    stages = Stages(Run(CPU, stop=stop), None)
    stages.stage("plain", Doubled, plain, settings=Settings(), inputs={}).ensure()
    assert not entered
    stages.stage("polling", Doubled, polling, settings=Settings(), inputs={}).ensure()
    assert entered
