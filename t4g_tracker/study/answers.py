"""Reading the key of a study, and the answers that participants saved."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t4g_tracker.errors import StudyError, shortened, warn
from t4g_tracker.inputs.input_files import decoded, open_input
from t4g_tracker.study.publishing import FORMAT, QUESTIONS, SIDES
from t4g_tracker.study.trials import PAIR, SAME, SPOILT

MOST_BYTES = 20_000_000
ORDERS = ("ab", "ba")


@dataclass(frozen=True)
class KeyTrial:
    """What a trial shows."""

    kind: str  # pair, same or spoilt
    models: dict[str, str]  # by side
    baseline: str  # of a pair
    spoilt: str  # side, of a spoilt one


@dataclass(frozen=True)
class Key:
    """What ``key.json`` says."""

    study: str
    ours: str
    baselines: tuple[str, ...]
    trials: dict[str, KeyTrial]  # by id


@dataclass(frozen=True)
class Answer:
    """What one participant answered about one trial."""

    trial: str
    order: str  # sides, video 1 first
    chosen: dict[str, int]  # 1 or 2, by question
    seconds: float

    def side(self, question: str) -> str:
        """The side that was preferred."""
        return self.order[self.chosen[question] - 1]


@dataclass(frozen=True)
class Participant:
    """All answers of one person."""

    name: str
    answers: tuple[Answer, ...]


def read_key(path: Path) -> Key:
    """Read a study's ``key.json``.

    Raises:
        StudyError: If it cannot be read, or is no such file.
    """
    record = _read(path, "the key.json of a study")
    try:
        trials = {
            str(trial["id"]): KeyTrial(
                trial["kind"],
                {side: str(trial[side]) for side in SIDES},
                str(trial["baseline"]),
                str(trial["spoilt"]),
            )
            for trial in record["trials"]
        }
        key = Key(str(record["study"]), str(record["ours"]), tuple(map(str, record["baselines"])), trials)
    except (KeyError, TypeError, AttributeError) as error:
        raise StudyError(f"{path}: is not the key of a study; give the key.json beside its page") from error
    for name, trial in trials.items():
        right = {
            PAIR: trial.baseline in key.baselines
            and set(trial.models.values()) == {key.ours, trial.baseline},
            SAME: True,
            SPOILT: trial.spoilt in SIDES,
        }
        if not right.get(trial.kind, False):
            raise StudyError(f"{path}: trial {shortened(name)} is damaged; make the study again")
    return key


def read_answers(paths: Sequence[Path], key: Key) -> list[Participant]:
    """Read the files that participants saved, sorted by participant.

    Of two files of one participant, the one with more answers counts, and a warning says so.

    Raises:
        StudyError: If a file cannot be read, is of another study, or has answers to no trial of this one.
    """
    found: dict[str, Participant] = {}
    for path in paths:
        one = _participant(path, key)
        before = found.get(one.name)
        if before is not None:
            warn(f"{path}: a second file of participant {one.name}; the one with more answers counts")
            one = max(before, one, key=lambda participant: len(participant.answers))
        found[one.name] = one
    return [found[name] for name in sorted(found)]


def _participant(path: Path, key: Key) -> Participant:
    record = _read(path, "answers that the page has saved")
    if record.get("study") != key.study:
        raise StudyError(f"{path}: is of another study; give the --key that it goes with, or leave it out")
    name, listed = record.get("participant"), record.get("answers")
    if not isinstance(name, str) or not name or not isinstance(listed, list):
        raise StudyError(f"{path}: has no participant or no answers; ask for the file again")
    failed = record.get("failed")
    if isinstance(failed, list) and failed:
        warn(f"{path}: {len(failed)} pairs could not be shown to {shortened(name)}, and are not counted")
    answers: dict[str, Answer] = {}
    for number, entry in enumerate(listed):
        answer = _answer(entry)
        if answer is None or answer.trial not in key.trials or answer.trial in answers:
            raise StudyError(f"{path}: answer {number} is damaged; ask for the file again, or leave it out")
        answers[answer.trial] = answer
    return Participant(shortened(name), tuple(answers.values()))


def _answer(entry: Any) -> Answer | None:
    """Read one answer; None if something in it is wrong."""
    if not isinstance(entry, dict) or entry.get("order") not in ORDERS:
        return None
    chosen = {question.name: entry.get(question.name) for question in QUESTIONS}
    places = {name: place for name, place in chosen.items() if type(place) is int and place in (1, 2)}
    seconds = entry.get("seconds")
    if places.keys() != chosen.keys() or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        return None
    return Answer(str(entry.get("trial")), entry["order"], places, float(seconds))


def _read(path: Path, wanted: str) -> dict[str, Any]:
    with open_input(path, MOST_BYTES, StudyError, wanted) as file:
        data = file.read()
    try:
        record = json.loads(decoded(data, StudyError))
    except (StudyError, ValueError, RecursionError) as error:
        raise StudyError(f"{path}: is not JSON; give {wanted}") from error
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        raise StudyError(f"{path}: is not of format {FORMAT}; give {wanted}")
    return record
