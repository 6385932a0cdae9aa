"""A changed setting is never answered from the cache, and one that does not matter throws nothing away."""

import dataclasses
import inspect
import os
from typing import get_args, get_type_hints

import pytest
import torch

from t4g_tracker import bundled, hardware, pipeline
from t4g_tracker.choices import Extractor
from t4g_tracker.config import read_settings
from t4g_tracker.features.settings import GROUPS
from t4g_tracker.fitted import fit_clip
from t4g_tracker.flow.raft import published_file
from t4g_tracker.pipeline import Config, open_clip, plan
from t4g_tracker.stage_cache import Run
from t4g_tracker.stage_log import StageLog
from t4g_tracker.storage.files import plain_values

CPU = torch.device("cpu")
STAGES = ("features", "flow", "query_flow", "trajectories", "buddies", "adaptation")

# The stages whose values depend on a setting, by its longest prefix here; () are read after the last stage.
DEPENDS = {
    "working_size": ("features", "trajectories", "buddies", "adaptation"),
    "features": ("features", "buddies", "adaptation"),
    "flow": ("flow", "query_flow", "trajectories", "buddies", "adaptation"),
    "motion.gaps": ("flow", "query_flow", "trajectories", "buddies", "adaptation"),
    "motion.step_cost": ("trajectories", "buddies", "adaptation"),
    "motion.jump_cost": ("trajectories", "buddies", "adaptation"),
    "motion.jump_px": ("trajectories", "buddies", "adaptation"),
    "motion.from_query": (),
    "motion.reach": ("query_flow",),
    "motion.dense_reach": ("query_flow",),
    "trajectories": ("trajectories", "buddies", "adaptation"),
    "matching": ("adaptation",),
    "adaptation": ("adaptation",),
    "adaptation.centre": ("buddies", "adaptation"),
    "adaptation.unit_length": ("buddies", "adaptation"),
    "adaptation.components": ("buddies", "adaptation"),
    "tracking": (),
    "visibility": (),
    "outputs": (),
    "memory": (),
}
OTHER_TEXT = {
    **dict.fromkeys([f"features.{name}.model" for name in ("zeroscope", "dinov2", "dino")], "a/b"),
    "flow.weights": __file__,
}
OTHER_NUMBER = {
    "working_size.pixels": 64 * 64 * 4,
    "working_size.multiple": 32,
    "features.patch.window_px": 18,
    "features.patch.stride_px": 4,
    "flow.pixels": 128 * 128,
    "flow.raft_scale": 0.5,
    "motion.gaps": [1, 3],
    "motion.reach": 2,
    "motion.dense_reach": 1,
    "adaptation.width": 32,
    "adaptation.window": 0.5,
    "adaptation.frames_per_step": 3,
    "adaptation.held_out": 0.1,
    "adaptation.late_start": 0.2,
    "trajectories.direct_gaps": [4],
    "tracking.alike": 0.5,
    "tracking.trust_from": 0.3,
    "tracking.trust_full": 0.9,
    "visibility.similarity_threshold": 0.4,
    "visibility.anchor_threshold": 0.4,
    "outputs.dim": 0.3,
}
OF_FLOW = {"flow", "query_flow", "trajectories", "buddies", "adaptation"}  # all that depends on flow
OF_CHAINED = {f"trajectories.{name}" for name in ("cycle_threshold_px", "direct_threshold_px", "direct_gaps")}
OF_GAPS = {f"trajectories.{name}" for name in ("start_every", "reach", "uncertainty_px")}
RULES = [
    ("gaps", OF_CHAINED),
    ("chained", OF_GAPS | {"motion.step_cost", "motion.jump_cost", "motion.jump_px"}),
]  # and settings of the other one


def leaves(settings, prefix=""):
    """(dotted name, value, type) of every setting."""
    hints = get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{name}.")
        else:
            yield name, value, hints[field.name]


def another(name, value, hint):
    """Assignments that give the setting another valid value."""
    if name in ("working_size.height", "working_size.width"):
        return ["working_size.height=64", "working_size.width=192"]
    if name in OTHER_TEXT:
        return [f"{name}={OTHER_TEXT[name]}"]
    if isinstance(value, bool):
        return [f"{name}={str(not value).lower()}"]
    if isinstance(value, str) and get_args(hint):
        options = [option for option in get_args(hint) if option != value]
        return [f"{name}={options[-1]}"]
    if isinstance(value, str):
        return [f"{name}=some/other/model"]
    if isinstance(value, tuple) and name not in OTHER_NUMBER:
        return [f"{name}=[3]"]
    return [f"{name}={OTHER_NUMBER.get(name, value * 2 if value else 1)}"]


@pytest.fixture(scope="module")
def clip(slide):
    return slide(6, (64, 96))


@pytest.fixture(autouse=True)
def weights_are_there(monkeypatch):
    """Models that are not on this machine count as found: keys are about settings."""
    monkeypatch.setattr(pipeline, "check_features", lambda config: "weights")


def keys(clip, *assignments, seed=0, foreground=None, device=CPU):
    config = read_settings(Config(), None, ["adaptation.snapshots=[5]", *assignments])
    stages = plan(open_clip(clip.video, config, foreground), config, Run(device=device, seed=seed))
    found = {name: getattr(stages, name).key for name in STAGES if name != "query_flow"}
    return found | {"query_flow": stages.query_flow(1).key}


def dependents(name):
    """The stages that depend on a setting."""
    longest = max((group for group in DEPENDS if f"{name}.".startswith(f"{group}.")), key=len)
    return set(DEPENDS[longest])


def changed(before, after):
    return {name for name in STAGES if before[name] != after[name]}


def base_for(name):
    """Settings under which the one in question matters."""
    group = name.split(".")
    if name.startswith("features.") and group[1] in ("diffusion", "zeroscope", "dinov2", "dino", "fused"):
        extractor = {"diffusion": "track4gen"}.get(group[1], group[1])
        return [f"features.extractor={extractor}"]
    if name in ("flow.weights", "flow.updates", "flow.raft_scale", "flow.refine"):
        return ["flow.method=raft-small", "features.extractor=patch"]
    late = ["adaptation.losses.cycle=1"] if name == "adaptation.late_start" else []
    rule = "chained" if name in OF_CHAINED else "gaps"
    return ["flow.method=dis", "features.extractor=patch", f"trajectories.rule={rule}", *late]


@pytest.mark.parametrize(("name", "value", "hint"), list(leaves(Config())), ids=lambda part: str(part)[:60])
def test_a_changed_setting_changes_the_keys_of_all_that_depends_on_it_and_no_others(clip, name, value, hint):
    base = base_for(name)
    before, after = keys(clip, *base), keys(clip, *base, *another(name, value, hint))
    wanted = dependents(name)
    if name == "working_size.multiple":  # 64x96 is then worked on at another size
        assert open_clip(clip.video, read_settings(Config(), None, base)).size != (
            open_clip(clip.video, read_settings(Config(), None, [*base, f"{name}=32"])).size
        )
    if name == "flow.pixels":  # the frames are smaller than that before and after
        wanted = set()
    assert changed(before, after) == wanted


def test_larger_frames_are_brought_down_by_flow_pixels(slide):
    large = slide(6, (192, 256))
    before, after = (
        keys(large, "features.extractor=patch"),
        keys(large, "features.extractor=patch", "flow.pixels=20000"),
    )
    assert changed(before, after) == OF_FLOW


@pytest.mark.parametrize("extractor", get_args(Extractor))
def test_settings_of_other_extractors_do_not_matter(clip, extractor):
    mine = {extractor} & set(GROUPS.values()) or {"diffusion"}
    mine |= {"diffusion", "dinov2"} if extractor == "fused" else set()  # its two parts
    base = [f"features.extractor={extractor}"]
    before = keys(clip, *base)
    for name, value, hint in leaves(Config().features, "features."):
        if name == "features.extractor":
            continue
        found = changed(before, keys(clip, *base, *another(name, value, hint)))
        assert bool(found) == (name.split(".")[1] in mine), name


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (["flow.method=dis"], "flow.updates=3"),
        (["flow.method=dis"], "flow.raft_scale=0.5"),
        (["flow.method=raft-small"], "flow.finest_scale=1"),
        (["adaptation.adapter=delta-cnn"], "adaptation.width=32"),
        (["adaptation.steps=4"], "adaptation.snapshots=[5, 100]"),
        ([], "adaptation.late_start=0.2"),
        (["adaptation.steps=0"], "adaptation.learning_rate=0.5"),
        (["adaptation.steps=0", "tracking.motion=false"], "matching.temperature=0.5"),
    ],
)
def test_a_setting_that_another_one_switches_off_does_not_matter(clip, base, change):
    base = ["features.extractor=patch", *base]
    assert keys(clip, *base) == keys(clip, *base, change)


def test_without_steps_flow_and_trajectories_matter_only_where_matches_join_flow(clip):
    joined = ["features.extractor=patch", "adaptation.steps=0"]
    after = keys(clip, *joined, "trajectories.spacing_px=8")  # they tell how far matches can be trusted
    assert changed(keys(clip, *joined), after) == {"trajectories", "buddies", "adaptation"}
    base = [*joined, "tracking.motion=false"]
    after = keys(clip, *base, "flow.finest_scale=1", "trajectories.spacing_px=8")
    assert changed(keys(clip, *base), after) == {"flow", "query_flow", "trajectories", "buddies"}


@pytest.mark.parametrize(("rule", "others"), RULES)
def test_settings_of_the_other_rule_for_trajectories_do_not_matter(clip, rule, others):
    base = ["features.extractor=patch", "flow.method=dis", f"trajectories.rule={rule}"]
    before = keys(clip, *base)
    for name, value, hint in leaves(Config()):
        if name in others:
            assert not changed(before, keys(clip, *base, *another(name, value, hint))), name


def test_flow_straight_from_a_frame_is_of_that_frame_and_of_no_pair_that_is_there_already(clip):
    base = ["features.extractor=patch", "flow.method=dis", "motion.gaps=[1,2]"]
    config = read_settings(Config(), None, base)
    stages = plan(open_clip(clip.video, config), config, Run(device=CPU))
    assert stages.query_flow(0) is stages.query_flow(0)
    assert stages.query_flow(0).key != stages.query_flow(1).key
    assert stages.query_flow(0).value.pairs.tolist() == [[0, 3], [0, 4], [0, 5]]
    assert stages.query_flow(2).value.pairs.tolist() == [[2, 5]]
    assert stages.query_flow(4).value.pairs.tolist() == [[0, 4], [1, 4]]
    near = read_settings(config, None, ["motion.reach=3"])
    stages = plan(open_clip(clip.video, near), near, Run(device=CPU))
    assert stages.query_flow(0).value.pairs.tolist() == [[0, 3]]
    sparse = read_settings(config, None, ["motion.dense_reach=1"])
    stages = plan(open_clip(clip.video, sparse), sparse, Run(device=CPU))
    assert stages.query_flow(0).value.pairs.tolist() == [[0, 4]]


def test_mined_buddies_depend_on_features_and_trajectories_and_matter_to_their_loss_alone(clip):
    base = ["features.extractor=patch", "flow.method=dis", "adaptation.losses.frozen_buddies=1"]

    def key(*more):
        config = read_settings(Config(), None, [*base, *more])
        return plan(open_clip(clip.video, config), config, Run(device=CPU)).buddies.key

    assert key() == key("adaptation.steps=7", "adaptation.losses.frozen_buddies=2", "matching.temperature=1")
    others = ["features.patch.channels=8", "trajectories.spacing_px=8", "adaptation.centre=false"]
    assert len({key(), *map(key, others)}) == 4


def test_seed_masks_and_device_change_what_depends_on_them(clip):
    base = ["features.extractor=patch", "flow.method=dis", "adaptation.precision=float32"]
    before = keys(clip, *base)
    assert changed(before, keys(clip, *base, seed=1)) == {"features", "buddies", "adaptation"}
    config = read_settings(Config(), None, base)
    size = open_clip(clip.video, config).size
    left, right = torch.zeros(6, *size, dtype=torch.bool), torch.zeros(6, *size, dtype=torch.bool)
    left[..., :40], right[..., 40:] = True, True
    masked = keys(clip, *base, foreground=left)
    assert changed(before, masked) == {"adaptation"}
    assert changed(masked, keys(clip, *base, foreground=right)) == {"adaptation"}
    assert changed(before, keys(clip, *base, device=torch.device("cuda"))) == set(STAGES)


def test_where_masks_are_given_those_from_features_do_not_matter(clip):
    base = ["features.extractor=patch", "flow.method=dis"]
    masks = torch.ones(6, *open_clip(clip.video, read_settings(Config(), None, base)).size, dtype=torch.bool)
    same = (
        keys(clip, *base, foreground=masks),
        keys(clip, *base, "adaptation.foreground=auto", foreground=masks),
    )
    assert same[0] == same[1]


def test_number_formats_are_told_apart(clip, monkeypatch):
    base = ["features.extractor=dinov2", "flow.method=dis"]
    found = []
    for fast in (False, True):
        monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda fast=fast: fast)
        found.append(keys(clip, *base))
    assert changed(*found) == {"features", "buddies", "adaptation"}
    same = keys(clip, *base, "adaptation.precision=bfloat16")
    assert same == found[1]  # what auto stands for, by its name


def test_other_weights_change_the_keys(clip, monkeypatch, tmp_path):
    before = keys(clip)
    monkeypatch.setattr(pipeline, "check_features", lambda config: "others")
    assert changed(before, keys(clip)) == {"features", "buddies", "adaptation"}
    weights = tmp_path / "raft.pth"
    weights.write_bytes(b"one")
    raft = ["flow.method=raft-small", f"flow.weights={weights}"]
    before = keys(clip, *raft)
    weights.write_bytes(b"other")
    assert changed(before, keys(clip, *raft)) == OF_FLOW


def test_published_weights_are_told_by_their_file(clip, monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    raft = ["flow.method=raft-large", "features.extractor=patch"]
    before = keys(clip, *raft)
    published_file("raft-large").parent.mkdir(parents=True)
    published_file("raft-large").write_bytes(b"fetched")
    assert changed(before, keys(clip, *raft)) == OF_FLOW


def test_bundled_weights_are_told_by_content_since_installing_gives_them_any_time(monkeypatch, tmp_path):
    monkeypatch.setattr(bundled, "WEIGHTS", tmp_path)
    file = tmp_path / "model.safetensors"
    found = []
    for content, time in ((b"old", 10), (b"old", 20), (b"new", 20)):
        file.write_bytes(content)
        os.utime(file, (time, time))
        found.append(bundled.file_identity(file))
    assert found[0] == found[1] != found[2]


def test_the_seed_matters_to_an_extractor_that_samples_something(clip):
    for extractor in ("dinov2", "dino", "fused"):
        base = [f"features.extractor={extractor}", "features.fused.first=dino", "flow.method=dis"]
        assert changed(keys(clip, *base), keys(clip, *base, seed=1)) == {"adaptation"}, extractor
    base = ["features.extractor=fused", "features.fused.first=patch", "flow.method=dis"]
    assert "features" in changed(keys(clip, *base), keys(clip, *base, seed=1))


def test_another_video_changes_every_key(clip, slide):
    assert changed(keys(clip), keys(slide(6, (64, 96), velocity=(1.0, 0.0)))) == set(STAGES)


@pytest.mark.parametrize("compute", ["_extract", "_flow", "_trajectories", "_mine", "_fit_adapter"])
def test_a_stage_sees_nothing_that_its_key_is_not_made_of(compute):
    function = getattr(pipeline, compute)
    assert inspect.getclosurevars(function).nonlocals == {}
    mutable = {
        name: value
        for name, value in inspect.getclosurevars(function).globals.items()
        if not callable(value) and not inspect.ismodule(value) and name != "log"
    }
    assert mutable == {}


def test_what_is_cached_answers_the_same_settings_and_no_others(clip, tmp_path, tiny_settings):
    def cached(*more):
        config = read_settings(Config(), None, [*tiny_settings, "adaptation.steps=2", *more])
        from t4g_tracker.storage.cache import Cache

        run = Run(device=CPU, cache=Cache(tmp_path), log=StageLog())
        fit_clip(open_clip(clip.video, config), config, run)
        return set(run.log.cached)

    assert cached() == set()
    assert cached() == {"features", "adaptation"}
    assert cached("trajectories.spacing_px=8") == {"features", "flow"}
    assert cached("trajectories.cycle_threshold_px=9.0") == {"features", "adaptation"}
    assert cached("motion.step_cost=0.02") == {"features", "flow"}
    assert cached("visibility.cycle_threshold_px=3.0") == {"features", "adaptation"}
    assert plain_values(Config())["adaptation"]["steps"] == 1000  # defaults are untouched
