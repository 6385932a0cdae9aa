"""Every number among the settings has limits: beyond them it is refused in one line, before any work."""

import dataclasses
import math
import typing

import numpy as np
import pytest

from t4g_tracker.config import apply_settings
from t4g_tracker.errors import ConfigError
from t4g_tracker.pipeline import Config
from t4g_tracker.storage.files import plain_values
from t4g_tracker.synthetic.settings import ValConfig
from t4g_tracker.training.flow.settings import FlowTraining
from t4g_tracker.training.track4gen.settings import AutoencoderTraining, Track4GenTraining

ALL = (Config, FlowTraining, AutoencoderTraining, Track4GenTraining, ValConfig)
EXTREMES = (
    math.nan,
    math.inf,
    -math.inf,
    -1,
    0,
    0.5,
    1,
    1e300,
    -1e300,
    1e-300,
    2**63,
    10**400,
    True,
    "3",
    [],
)


def numbers_of(settings, prefix=""):
    """(dotted name, dataclass it is in, own name, whether a list) of every setting of numbers."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value, hint = getattr(settings, field.name), hints[field.name]
        if dataclasses.is_dataclass(value):
            yield from numbers_of(value, f"{prefix}{field.name}.")
        elif {int, float} & {hint, *typing.get_args(hint)}:
            yield prefix + field.name, type(settings), field.name, typing.get_origin(hint) is tuple


EVERY = [(kind, *found) for kind in ALL for found in numbers_of(kind())]
NAMES = [f"{kind.__name__}-{name}" for kind, name, *_ in EVERY]


def attempt(kind, name, value):
    """The settings with one of them changed, or the message that refuses it."""
    for part in reversed(name.split(".")):
        value = {part: value}
    try:
        return apply_settings(kind(), value, "here"), ""
    except ConfigError as error:
        return None, str(error)


def assert_brief(message):
    assert message.isprintable()
    assert len(message) < 250


def test_the_walk_finds_numbers_at_every_depth():
    assert len(EVERY) > 100
    assert {"Config-adaptation.losses.prior", "FlowTraining-trainer.workers", "ValConfig-size"} <= set(NAMES)


@pytest.mark.parametrize(("kind", "name", "group", "own", "a_list"), EVERY, ids=NAMES)
def test_a_number_is_within_its_limits_or_refused_in_one_line(kind, name, group, own, a_list):
    least, most = group.LIMITS[own]
    assert math.isfinite(least)
    assert math.isfinite(most)
    for extreme in (*EXTREMES, least - 1, most + 1, math.nextafter(most, math.inf)):
        changed, message = attempt(kind, name, [extreme] * 2 if a_list else extreme)
        if message:
            assert own in message
            assert_brief(message)
            continue
        found = plain_values(changed)
        for part in name.split("."):
            found = found[part]
        assert all(number is None or least <= number <= most for number in (found if a_list else [found]))


@pytest.mark.parametrize(("kind", "name", "group", "own", "a_list"), EVERY, ids=NAMES)
def test_a_program_that_reads_no_file_has_the_same_limits(kind, name, group, own, a_list):
    least, most = group.LIMITS[own]
    for extreme in (math.nan, math.inf, "3", True, least - 1, most + 1, most + 0.5):
        with pytest.raises(ConfigError, match=own) as caught:
            group(**{own: (extreme,) * 2 if a_list else extreme})
        assert_brief(str(caught.value))


@pytest.mark.parametrize(("kind", "name", "group", "own", "a_list"), EVERY, ids=NAMES)
def test_the_limits_themselves_are_allowed(kind, name, group, own, a_list):
    """Unless another setting forbids them, which the message then is about."""
    for limit in group.LIMITS[own]:
        _, message = attempt(kind, name, [limit] * 2 if a_list else limit)
        assert f"{own} must be from" not in message
        assert f"{own}[0] must be from" not in message


def test_a_refusal_names_the_limits():
    _, said = attempt(Config, "matching.temperature", 1e-300)
    assert said == "here: matching.temperature must be from 0.001 to 10, got 1e-300"
    _, said = attempt(Config, "adaptation.snapshots", [5, 0])
    assert said == "here: adaptation.snapshots[1] must be from 1 to 1000000000, got 0"
    _, said = attempt(Config, "adaptation.snapshots", [5] * 1001)
    assert "must be a list of at most 1000 numbers" in said


def test_numbers_of_numpy_are_numbers():
    group = type(Config().adaptation)
    assert group(steps=np.int64(7), learning_rate=np.float32(0.5)).steps == 7
    for wrong in ({"steps": np.float32(7)}, {"learning_rate": np.float32(math.nan)}):
        with pytest.raises(ConfigError):
            group(**wrong)
