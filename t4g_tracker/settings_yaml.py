"""Settings as YAML: every value is read as it is written, and what could be read in two ways is refused.

PyYAML follows YAML 1.1, which reads 0100 as 64, 1:20 as 80, 1_000 as 1000, and ``no`` as false. Here only the
decimal numbers of YAML 1.2, true, false and null are more than text. Repeated names, tags and aliases are
refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Hashable
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from t4g_tracker.errors import ConfigError, shortened
from t4g_tracker.inputs.input_files import refuse_special

LARGEST_FILE = 256 * 1024  # bytes; configs/default.yaml has 8 thousand
DEEPEST = 20  # groups within groups; the program's own settings have 3


class _NotReadError(yaml.MarkedYAMLError):
    """YAML that is valid, but not read here."""


class _Loader(yaml.SafeLoader):
    """Reads plain values by YAML 1.2's core schema, without its octal and hexadecimal numbers."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012, those of 1.1 are left out
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal("aliases such as *name are not read; write the value itself", event.start_mark)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags such as !!name are not read; write the value without one", event.start_mark)
        if self.depth == DEEPEST:
            raise _refusal(f"has more than {DEEPEST} groups within groups; write fewer", event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise _refusal("names of settings must be text; write them without brackets", key.start_mark)
            if key.value in lines:
                first = lines[key.value] + 1
                what = f"{shortened(key.value)} is given twice, first in line {first}; leave one of them out"
                raise _refusal(what, key.start_mark)
            lines[key.value] = key.start_mark.line
        return super().construct_mapping(node, deep)


for _kind, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,29})", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?[eE][-+]?[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*"
        r"|\.[0-9]+(?:[eE][-+]?[0-9]+)?|\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN",
        list("-+0123456789."),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(f"(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """Quotes every text that YAML 1.1 or ``_Loader`` would read as something else."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: yaml.SafeDumper.yaml_implicit_resolvers.get(first, [])
        + _Loader.yaml_implicit_resolvers.get(first, [])
        for first in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
    }


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of nested settings.

    Raises:
        ConfigError: If it is no file or pipe of at most 256 KB, is not YAML, or is not a mapping.
    """
    parsed = parse_yaml(_read_text(path), f"{path}:")
    if parsed is None:
        return {}
    if not isinstance(parsed, dict):
        raise ConfigError(
            f"{path}: must be a mapping of stages to settings, got {type(parsed).__name__}; write it as in "
            "adaptation: {steps: 2000}"
        )
    return parsed


def _read_text(path: Path) -> str:
    """Read a small text file, or a pipe that something writes to, such as bash's ``<(...)``."""
    try:
        with _opened(path) as file:
            data = file.read(LARGEST_FILE + 1)
            if not data and stat.S_ISFIFO(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path}: is a pipe that nothing writes to; give a YAML file of settings")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); give an existing YAML file") from error
    if len(data) > LARGEST_FILE:
        raise ConfigError(f"{path}: is larger than {LARGEST_FILE // 1024} KB; give a YAML file of settings")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not a text file; give a YAML file of settings, in UTF-8") from error


def _opened(path: Path) -> BinaryIO:
    if not path.is_fifo():
        refuse_special(path, ConfigError, "give a YAML file of settings")
        return path.open("rb")
    file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")  # waits for nothing to write
    os.set_blocking(file.fileno(), True)
    return file


def parse_yaml(text: str, where: str, numbered: bool = True) -> Any:
    """Parse one YAML document.

    Args:
        text: The document.
        where: Begins the error message.
        numbered: Name the line in the error message.

    Raises:
        ConfigError: If it is not valid YAML, or uses a part of YAML that is not read here.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        problem = "has a character that YAML does not allow; delete it"
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = str(error.problem)
        if not isinstance(error, _NotReadError):
            problem = f"is not valid YAML ({shortened(problem)}); correct it, or put quotes around text"
    raise ConfigError(f"{where} line {line}: {problem}" if numbered else f"{where} {problem}")


def write_yaml(nested: dict[str, Any]) -> str:
    """Write nested settings as YAML that ``read_yaml`` reads back to the same values."""
    return yaml.dump(nested, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def _refusal(problem: str, mark: Any) -> _NotReadError:
    return _NotReadError(None, None, problem, mark)
