"""Stages run when their value is first needed, once, and what they leave is found by the next run."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from t4g_tracker.cache import Cache
from t4g_tracker.stage_cache import Node, Run, Stages, derived

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

    def make(node, settings=Settings(), cache=True, **facts):
        run = Run(CPU, cache=Cache(tmp_path) if cache else None)

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


def test_a_derived_value_has_a_key_of_its_input_and_its_facts(calls):
    def scaled(values, by):
        return values * by

    nodes = [derived(scaled, source(calls, key=key), by=by) for key, by in (("a", 2), ("b", 2), ("a", 3))]
    assert len({node.key for node in nodes}) == 3
    assert derived(scaled, source(calls, key="a"), by=2).key == nodes[0].key
    assert [float(node.value) for node in nodes] == [6, 6, 9]
