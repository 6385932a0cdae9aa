"""Reading settings: what is not understood is refused, and the message says what to write instead."""

import dataclasses
import inspect
import re
import typing
from pathlib import Path

import pytest

from t4g_tracker.config import GONE, MOVED, apply_settings, read_assignments, read_settings
from t4g_tracker.coordinates import working_size
from t4g_tracker.errors import ConfigError
from t4g_tracker.pipeline import Config
from t4g_tracker.settings_yaml import parse_yaml, read_yaml
from t4g_tracker.storage.files import plain_values

CONFIGS = Path(__file__).parents[1] / "configs"


def message_of(text: str) -> str:
    """The one line that settings written as YAML are refused with."""
    with pytest.raises(ConfigError) as caught:
        apply_settings(Config(), parse_yaml(text, "configs/davis.yaml:"), "configs/davis.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def names_in(settings, prefix="") -> set[str]:
    """Dotted names of every single setting in nested dicts."""
    names = set()
    for key, value in settings.items():
        names |= names_in(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return names


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "adaptation: {learning_rte: 1.0e-3}",
            "adaptation.learning_rte is not a setting; did you mean adaptation.learning_rate?",
        ),
        (
            "adaptation: {learning_rate: '1e-3'}",
            "adaptation.learning_rate must be a number, got the text '1e-3'; write 0.001",
        ),
        ("adaption: {steps: 3}", "adaption.steps is not a setting; did you mean adaptation.steps?"),
        ("adaptation: {step: 60}", "adaptation.step is not a setting; did you mean adaptation.steps?"),
        ("adaption: 3", "adaption is not a setting; did you mean adaptation?"),
        ("steps: 50", "steps is not a setting; did you mean adaptation.steps?"),
        ("flow: {temperature: 1}", "flow.temperature is not a setting; did you mean matching.temperature?"),
        (
            "cycle_threshold_px: 3",
            "cycle_threshold_px is not a setting; did you mean trajectories.cycle_threshold_px or "
            "visibility.cycle_threshold_px?",
        ),
        (
            "1: 2",
            "1 is not a setting; settings are in working_size, features, flow, motion, trajectories, "
            "matching, adaptation, tracking, visibility, outputs, memory",
        ),
        ("adaptation: {steps: 1.5}", "adaptation.steps must be a whole number, got 1.5"),
        ("adaptation: {steps: 1e3}", "adaptation.steps must be a whole number, got 1000.0; write 1000"),
        ("adaptation: {steps: }", "adaptation.steps must be a whole number, got nothing"),
        ("adaptation: {steps: true}", "adaptation.steps must be a whole number, got True"),
        ("adaptation: {learning_rate: true}", "adaptation.learning_rate must be a number, got True"),
        (
            "adaptation: {learning_rate: fast}",
            "adaptation.learning_rate must be a number, got the text 'fast'",
        ),
        (
            "adaptation: {losses: {prior: '2'}}",
            "adaptation.losses.prior must be a number, got the text '2'; write 2",
        ),
        ("adaptation: {snapshots: 100}", "adaptation.snapshots must be a list, got 100; write [a, b, ...]"),
        (
            "adaptation: {snapshots: [5, x]}",
            "adaptation.snapshots[1] must be a whole number, got the text 'x'",
        ),
        (
            "adaptation: 7",
            "adaptation is a group of settings, got 7; set one of them, such as adaptation.steps",
        ),
        ("tracking: {subpixel: 1}", "tracking.subpixel must be true or false, got 1; write true"),
        (
            "tracking: {subpixel: no}",
            "tracking.subpixel must be true or false, got the text 'no'; write false",
        ),
        (
            "flow: {method: raft-smal}",
            "flow.method must be one of auto, dis, raft-mini, raft-small, raft-large, "
            "got the text 'raft-smal'; did you mean raft-small?",
        ),
        ("flow: {weights: 5}", "flow.weights must be text, got 5; put it in quotes"),
        ("adaptation: {steps: -1}", "adaptation.steps must be from 0 to 1000000000, got -1"),
        (
            'flow: {weights: "a\\0b"}',
            "flow.weights has a character that no name can have, the text 'a\\x00b'; leave it out",
        ),
    ],
)
def test_a_wrong_setting_is_named_with_its_file_and_the_remedy(text, said):
    assert message_of(text) == f"configs/davis.yaml: {said}"


def test_a_setting_that_is_gone_is_told_so_with_what_took_its_place():
    assert message_of("tracking: {jump_px: 12}") == (
        "configs/davis.yaml: tracking.jump_px is gone; leave it out: matches join flow by their uncertainty, "
        "tracking.match_cost"
    )
    assert "trajectories.direct_gaps" in message_of("trajectories: {direct_pairs: 24}")


def test_settings_that_take_the_place_of_old_ones_exist_and_the_old_ones_do_not():
    names = names_in(plain_values(Config()))
    for instead in [*MOVED.values(), *GONE.values()]:
        found = re.findall(r"[a-z]+\.[a-z_]+", instead)
        assert found
        assert set(found) <= names
    assert not names & {*MOVED, *GONE}


def test_an_unknown_name_without_a_likeness_lists_what_there_is():
    assert message_of("zzzzz: 1").startswith(
        "configs/davis.yaml: zzzzz is not a setting; settings are in working_size, features, flow"
    )


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_a_number_that_is_not_finite_is_refused(value):
    assert "adaptation.learning_rate must be a finite number" in message_of(
        f"adaptation: {{learning_rate: {value}}}"
    )


def test_what_a_message_says_to_write_is_accepted():
    for wrong in ("1e-3", "2.5", "1E-7", "2", "0_1", "01.50"):
        advice = message_of(f"adaptation: {{learning_rate: '{wrong}'}}").rpartition("write ")[2]
        changed = read_settings(Config(), None, [f"adaptation.learning_rate={advice}"])
        assert changed.adaptation.learning_rate == float(wrong)


def test_settings_that_are_not_named_keep_their_values():
    changed = apply_settings(
        Config(), {"adaptation": {"steps": 7, "losses": {"prior": 1}, "snapshots": [1, 2]}}, "f"
    )
    losses = dataclasses.replace(Config().adaptation.losses, prior=1.0)
    adaptation = dataclasses.replace(Config().adaptation, steps=7, losses=losses, snapshots=(1, 2))
    assert changed == dataclasses.replace(Config(), adaptation=adaptation)


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "empty.yaml").write_text("# nothing yet\n")
    assert read_settings(Config(), tmp_path / "empty.yaml", []) == Config()


def test_assignments_are_read_as_yaml_and_nest():
    found = read_assignments(
        ["adaptation.steps=20", "adaptation.losses.prior=1.5", "tracking.subpixel=false"]
    )
    assert found == {"adaptation": {"steps": 20, "losses": {"prior": 1.5}}, "tracking": {"subpixel": False}}


@pytest.mark.parametrize(
    "wrong", ["adaptation.steps", "=3", "adaptation.=3", ".steps=3", "a.b=[1, 2", "a=*b"]
)
def test_an_assignment_that_is_not_one_is_quoted_back(wrong):
    with pytest.raises(ConfigError, match="--set ") as caught:
        read_assignments([wrong])
    assert wrong in str(caught.value)


def test_an_assignment_to_a_stage_and_to_its_setting_contradict_each_other():
    with pytest.raises(ConfigError, match="adaptation was given a value before"):
        read_assignments(["adaptation=3", "adaptation.steps=3"])


def test_an_assignment_overrules_the_file(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("adaptation: {steps: 5, width: 32}")
    config = read_settings(Config(), path, ["adaptation.steps=6"])
    assert (config.adaptation.steps, config.adaptation.width) == (6, 32)


def test_default_yaml_lists_every_setting_with_the_value_of_its_default():
    listed = read_yaml(CONFIGS / "default.yaml")
    assert names_in(listed) == names_in(plain_values(Config()))
    assert apply_settings(Config(), listed, "default.yaml") == Config()


def comments_in_code(settings, prefix="") -> dict[str, str]:
    """The comment of every setting in its dataclass, beside the field or above it, then the choices."""
    comments = {}
    kinds = [kind for kind in type(settings).__mro__ if dataclasses.is_dataclass(kind)]  # with inherited ones
    source, hints = "".join(map(inspect.getsource, kinds)), typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            comments |= comments_in_code(value, f"{prefix}{field.name}.")
            continue
        found = re.search(rf"^(?:    # (.+)\n)?    {field.name}: .*?(?:  # (.+))?$", source, re.MULTILINE)
        words = [found[2] or found[1]]
        if typing.get_origin(hints[field.name]) is typing.Literal:
            words.append(", ".join(typing.get_args(hints[field.name])))
        comments[prefix + field.name] = "; ".join(words)
    return comments


def comments_in_yaml(text: str) -> dict[str, str]:
    """The comment of every setting in a YAML file of nested settings."""
    comments, path = {}, []
    setting = re.compile(r"^( *)(\w+):(?: ([^#\n]+?))?  # (.+)$", re.MULTILINE)
    for indent, name, value, comment in setting.findall(text):
        path = [*path[: len(indent) // 2], name]
        if value:
            comments[".".join(path)] = comment
    return comments


def test_default_yaml_explains_every_setting_in_the_words_of_the_code():
    in_yaml = comments_in_yaml((CONFIGS / "default.yaml").read_text(encoding="utf-8"))
    assert in_yaml == comments_in_code(Config())
    assert in_yaml.keys() == names_in(plain_values(Config()))


@pytest.mark.parametrize(
    "name", ["default.yaml", "fast.yaml", "short.yaml", "paper.yaml", "dino-tracker.yaml"]
)
def test_every_shipped_file_loads_from_any_folder(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert isinstance(read_settings(Config(), Path(name), []), Config)


@pytest.mark.parametrize("name", ["short", "short.yaml", "configs/short.yaml"])
def test_a_name_means_the_shipped_file_unless_there_is_a_file_of_that_name(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert read_settings(Config(), name).adaptation.steps == 600
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("adaptation: {steps: 7}")
    assert read_settings(Config(), name).adaptation.steps == 7


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "nosuch",
            "nosuch: no such file; give a YAML file, or a name that comes with the program: default, ",
        ),
        ("fats", "dino-tracker, fast, paper, short; did you mean fast?"),
        ("there/fast.yaml", "there/fast.yaml: no such file"),
        ("fast.json", "fast.json: no such file"),
        ("x" * 5000, "no such file"),
        ("", "is a folder"),
    ],
)
def test_a_file_that_is_not_there_is_refused_with_the_names_of_those_that_are(name, said):
    with pytest.raises(ConfigError) as caught:
        read_settings(Config(), name)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400


def test_fast_learns_nothing_short_takes_fewer_steps_and_paper_uses_the_published_recipe():
    fast, short = (read_settings(Config(), CONFIGS / f"{name}.yaml", []) for name in ("fast", "short"))
    paper = read_settings(Config(), CONFIGS / "paper.yaml", [])
    assert fast.adaptation.steps == 0 < short.adaptation.steps < Config().adaptation.steps
    assert (paper.features.extractor, paper.adaptation.adapter) == ("track4gen", "delta-cnn")
    assert (paper.adaptation.steps, paper.adaptation.frames_per_step) == (5000, 4)
    assert paper.adaptation.losses.cross_entropy == paper.adaptation.losses.window_cross_entropy == 0


def test_both_published_recipes_take_the_published_steps():
    for name, working_px in (("paper", 320 * 576), ("dino-tracker", 480 * 856)):
        config = read_settings(Config(), name)
        found = config.adaptation
        assert (found.adapter, found.sampling, found.schedule) == ("delta-cnn", "uniform", "exponential")
        assert [found.centre, found.unit_length, found.clip_norm, found.weight_decay] == [False, False, 0, 0]
        assert found.frames_per_step * found.pairs_per_frame == 512
        assert config.flow.updates == 24
        height, width = working_size((480, 854), config.working_size)
        assert height * width == working_px
        scale = (working_px / (476 * 854)) ** 0.5  # from the size that published lengths are for
        assert config.matching.window_radius_px == pytest.approx(35 * scale, rel=0.01)


def test_dino_tracker_s_recipe_has_all_its_losses_and_paper_the_flow_loss_alone():
    def weights(name):
        losses = read_settings(Config(), name).adaptation.losses
        return {key: value for key, value in vars(losses).items() if value}

    assert weights("paper") == {"huber": 1}
    full = weights("dino-tracker")
    assert full.keys() == {"huber", "prior", "frozen_buddies", "refined_buddies", "cycle"}
    assert full["cycle"] == 0.5 * full["huber"]


def test_diffusion_features_refuse_a_working_size_their_unet_cannot_halve():
    with pytest.raises(ConfigError, match="multiple of 64 for svd features"):
        read_settings(Config(), None, ["features.extractor=svd", "working_size.multiple=16"])


def test_direct_flow_over_a_gap_that_is_not_computed_is_refused_where_it_would_be_compared():
    chained = ["trajectories.rule=chained", "motion.gaps=[1, 4]"]
    with pytest.raises(
        ConfigError, match=r"direct_gaps holds 8, over which no flow .* add it to motion.gaps"
    ):
        read_settings(Config(), None, chained)
    assert read_settings(Config(), None, ["motion.gaps=[1, 4]"]).trajectories.rule == "gaps"
    assert read_settings(Config(), None, [*chained, "trajectories.direct_gaps=[4]"])
