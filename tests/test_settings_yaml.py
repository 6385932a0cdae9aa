"""YAML of settings: read as it is written, or refused in one short line, whatever the file holds."""

import contextlib
import os
import threading
import time
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from t4g_tracker.config import apply_settings, read_assignments, read_settings
from t4g_tracker.errors import ConfigError
from t4g_tracker.pipeline import Config
from t4g_tracker.settings_yaml import LARGEST_FILE, parse_yaml, read_yaml, write_yaml
from t4g_tracker.storage.files import plain_values


def message_of(read, *what) -> str:
    begin = time.monotonic()
    with pytest.raises(ConfigError) as caught:
        read(*what)
    assert time.monotonic() - begin < 2
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) < 300
    return message


LAUGHS = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in pairwise("abcdefghijk"))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("adaptation: [1, 2", "line 1: is not valid YAML"),
        ("- adaptation", "must be a mapping of stages to settings, got list"),
        (
            "adaptation:\n  width: 64\n  width: 32",
            "line 3: width is given twice, first in line 2; leave one of them out",
        ),
        ("flow: {}\nflow: {}", "line 2: flow is given twice, first in line 1"),
        ("a: &a [1]\n" + LAUGHS, "line 2: aliases such as *name are not read"),
        ("a: &a {steps: 3}\nadaptation: {<<: *a}", "line 2: aliases"),
        ("adaptation: {steps: !!int abc}", "line 1: tags such as !!name are not read"),
        ("!!python/object/apply:os.system [exit]", "line 1: tags"),
        ("adaptation: !!timestamp x", "line 1: tags"),
        ("{[1]: 2}", "line 1: names of settings must be text"),
        ("features: " + "[" * 5000 + "]" * 5000, "has more than 20 groups within groups"),
        ("features: " + "{a: " * 5000 + "}" * 5000, "has more than 20 groups within groups"),
        ("x: 3\nadaptation:\0 3", "line 2: has a character that YAML does not allow; delete it"),
        ("adaptation: {steps: 3}\n---\n{}", "line 2: is not valid YAML"),
        (b"\xff\xfe\x00steps", "is not a text file"),
        (b"a: 1\n" * LARGEST_FILE, "is larger than 256 KB"),
    ],
)
def test_a_file_that_holds_no_settings_is_refused_by_name(tmp_path, content, said):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    message = message_of(read_yaml, path)
    assert message.startswith(f"{path}: ")
    assert said in message


def test_what_is_no_file_is_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "endless").symlink_to("/dev/zero")
    assert "pipe: is a pipe that nothing writes to" in message_of(read_settings, Config(), tmp_path / "pipe")
    assert "endless: is a device; give" in message_of(read_settings, Config(), tmp_path / "endless")
    assert "is a folder" in message_of(read_settings, Config(), tmp_path)
    assert "no such file" in message_of(read_settings, Config(), "none\0.yaml")


def test_a_pipe_that_ends_is_read():
    reading, writing = os.pipe()
    os.write(writing, b"adaptation: {steps: 3}")
    os.close(writing)
    assert read_settings(Config(), f"/dev/fd/{reading}").adaptation.steps == 3
    os.close(reading)


def test_a_pipe_that_something_will_write_to_is_waited_for(tmp_path):
    reading, writing = os.pipe()
    later = threading.Timer(0.1, lambda: (os.write(writing, b"seed: 3"), os.close(writing)))
    later.start()
    assert read_yaml(Path(f"/dev/fd/{reading}")) == {"seed": 3}
    os.close(reading)


def test_a_pipe_that_does_not_end_is_read_no_further_than_a_file():
    reading, writing = os.pipe()
    endless = threading.Thread(target=_write_on, args=(writing,))
    endless.start()
    assert "is larger than 256 KB" in message_of(read_yaml, Path(f"/dev/fd/{reading}"))
    os.close(reading)
    endless.join()


def _write_on(writing):
    with contextlib.suppress(BrokenPipeError):
        while True:
            os.write(writing, b"a: 1\n" * 1000)


@pytest.mark.parametrize(
    "value",
    [
        "0100",
        "1:20",
        "1_000",
        "0x10",
        "0o17",
        "2020-99-99",
        "2020-01-01",
        "yes",
        "1" * 5000,
        "'3'",
        "!x",
        "*a",
        "[1]",
    ],
)
def test_what_could_be_read_in_two_ways_is_no_number(value):
    assert "adaptation.width" in message_of(read_settings, Config(), None, [f"adaptation.width={value}"])


@pytest.mark.parametrize("value", ["yes", "No", "ON", "off", "y", "1", "'true'"])
def test_only_true_and_false_are_true_and_false(value):
    message = message_of(read_settings, Config(), None, [f"tracking.subpixel={value}"])
    advice = message.rpartition("write ")[2]
    meant = value.strip("'").lower() in ("yes", "on", "y", "1", "true")
    assert read_settings(Config(), None, [f"tracking.subpixel={advice}"]).tracking.subpixel == meant


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", ".001", "1E-3", "+1e-3", "1.e-3"])
def test_a_number_is_read_however_it_is_written(text):
    value = parse_yaml(text, "here:")
    assert isinstance(value, float)
    assert value == 0.001


def test_whole_numbers_are_whole_and_huge_ones_exact():
    assert [parse_yaml(text, "") for text in ("0", "-7", "+12", str(2**63))] == [0, -7, 12, 2**63]


@pytest.mark.parametrize(
    "text", ["", "yes", "0100", "1e-3", "2020-01-01", "null", "true", "a: b", "ü", "1_0", "~", "'"]
)
def test_what_is_written_is_read_back(tmp_path, text):
    changed = apply_settings(
        Config(), {"flow": {"weights": text}, "adaptation": {"learning_rate": 1e-7, "snapshots": []}}, "here"
    )
    path = tmp_path / "settings.yaml"
    path.write_text(write_yaml(plain_values(changed)), encoding="utf-8")
    assert read_settings(Config(), path) == changed


def test_an_assignment_is_quoted_briefly():
    assert "--set a=[" in message_of(read_assignments, ["a=[" + "1, " * 10_000])
    assert "did you mean" not in message_of(read_settings, Config(), None, ["x" * 10_000 + "=1"])


def test_a_large_value_is_described_by_its_beginning():
    shared = [1]
    for _ in range(40):
        shared = [shared] * 9
    message_of(apply_settings, Config(), {"features": shared}, "here")
    message_of(apply_settings, Config(), {"adaptation": {"steps": [10**9000] * 5}}, "here")
    message_of(apply_settings, Config(), {"adaptation": {"steps": 10**9000}}, "here")


def test_every_shipped_file_is_read_as_by_any_other_reader():
    for path in (Path(__file__).parents[1] / "configs").glob("*.yaml"):
        assert read_yaml(path) == yaml.safe_load(path.read_text(encoding="utf-8"))
