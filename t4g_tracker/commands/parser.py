"""The parser of every command: a mistake in the arguments is one line that says what to write instead."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from t4g_tracker import __version__
from t4g_tracker.commands.printing import say
from t4g_tracker.errors import nearest, shortened, suggestion

LISTED = "--help lists the options"
REQUIRED = "the following arguments are required: "  # argparse's words


class Parser(argparse.ArgumentParser):
    """An ``ArgumentParser`` without abbreviations, whose errors are one line on standard error, exit code 2.

    An abbreviated option would change its meaning, or lose it, when a later version adds an option. What is
    not an option is refused with the nearest.
    """

    settings: Callable[[], Any] | None = None  # makes the defaults that --print-config starts from

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        version = f"t4g-tracker {__version__}"
        self.add_argument("--version", action="version", version=version, help="print the version and exit")
        self._given: Sequence[str] = ()

    def parse(self, argv: Sequence[str] | None) -> argparse.Namespace:
        """Parse ``argv``, or the process's own arguments if None; exits with code 2 on wrong usage.

        ``--print-config`` prints the settings instead, whatever else is given or missing, and exits with 0.
        """
        self._given = sys.argv[1:] if argv is None else argv
        self._check_names()
        if self.settings is not None and "--print-config" in self._given:
            say(settings_text(self.settings(), self._given), end="")
            self.exit()
        found, extra = self.parse_known_args(self._given)
        if extra:
            self.error(f"{shortened(extra[0])}: is not expected here; {LISTED}")
        return found

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        if message.startswith(REQUIRED):
            message = self._missing(message.removeprefix(REQUIRED))
        message = shortened(re.sub(r"\bargument (?=[-\w]+:|-)", "", message), 500)
        choice = re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message)
        known = re.findall(r"'([^']*)'", choice[2]) if choice else []
        remedy = suggestion(choice[1] if choice else "", known, LISTED)
        self.exit(2, f"error: {message}\n" if ";" in message else f"error: {message}; {remedy}\n")

    def _check_names(self) -> None:
        """Refuse an option that does not exist, before argparse misses others for the lack of it."""
        known = self._option_string_actions
        for argument in self._given:
            name = argument.partition("=")[0]
            if argument == "--":
                return
            is_option = (
                name.startswith("-") and name != "-" and not re.match(r"-\.?\d", name) and " " not in name
            )
            if is_option and name not in known:
                near = [option for option in known if option.startswith(name)] if len(name) > 2 else []
                bare = nearest(name.strip("-"), [option.strip("-") for option in known])
                near = near or [f"--{bare}"] * bool(bare)
                remedy = f"did you mean {' or '.join(near)}?" if near else LISTED
                self.error(f"{shortened(name)}: is not an option; {remedy}")

    def _missing(self, names: str) -> str:
        """What to say when the arguments ``names`` are required and not given."""
        for action in self._actions:
            action.required = False
        _, extra = self.parse_known_args(self._given)
        if extra and "--video" in names.split(", "):
            name = shortened(extra[0])
            return f"{name}: is not expected here; to track points in it, write --video {name}"
        are = "are" if ", " in names else "is"
        return f"{names.replace(', ', ' and ')} {are} missing; {LISTED}"


def settings_text(base: Any, argv: Sequence[str]) -> str:
    """Write the settings that result from ``--config`` and ``--set`` as YAML, which ``--config`` reads.

    Args:
        base: The settings that both change.
        argv: A command's arguments; all others are ignored.

    Raises:
        ConfigError: If a setting is wrong.
    """
    from t4g_tracker.config import read_settings
    from t4g_tracker.settings_yaml import write_yaml
    from t4g_tracker.storage.files import plain_values

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    parser.add_argument("--set", dest="assignments", action="extend", nargs="+", default=[])
    found, _ = parser.parse_known_args(argv)
    return write_yaml(plain_values(read_settings(base, found.config, found.assignments)))


def whole(least: int, most: int) -> Callable[[str], int]:
    """Make a parser of whole numbers from ``least`` to ``most``."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[-+]?[0-9]{1,30}", text) or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(
                f"must be a whole number from {least} to {most}, got {shortened(text)}"
            )
        return int(text)

    return parse


def number(least: float, most: float) -> Callable[[str], float]:
    """Make a parser of numbers from ``least`` to ``most``."""

    def parse(text: str) -> float:
        plain = re.fullmatch(r"[-+]?([0-9]{1,30}\.?[0-9]{0,30}|\.[0-9]{1,30})(e[-+]?[0-9]{1,3})?", text, re.I)
        if not plain or not least <= float(text) <= most:
            raise argparse.ArgumentTypeError(
                f"must be a number from {least:g} to {most:g}, got {shortened(text)}"
            )
        return float(text)

    return parse
