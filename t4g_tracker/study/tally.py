"""What the answers of a study come to: preferences, agreement, bias for one place, attention."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Any

from t4g_tracker.study.answers import Answer, Key, Participant
from t4g_tracker.study.publishing import QUESTIONS
from t4g_tracker.study.trials import PAIR, SAME, SPOILT
from t4g_tracker.tables import Table, rounded

ALL = "all"  # baselines together
ASKED = tuple(question.name for question in QUESTIONS)


@dataclass(frozen=True)
class Share:
    """How often something was chosen: ``count`` of ``total`` times."""

    count: int
    total: int

    @property
    def percent(self) -> float:
        """NaN of nothing."""
        return 100 * self.count / self.total if self.total else float("nan")

    def interval(self) -> tuple[float, float]:
        """The lowest and highest share in percent, by Wilson's interval at 95 %; 0 and 100 of nothing."""
        from scipy.stats import binomtest

        if not self.total:
            return 0.0, 100.0
        found = binomtest(self.count, self.total).proportion_ci(0.95, method="wilson")
        return 100 * float(found.low), 100 * float(found.high)

    def p_value(self) -> float:
        """How likely a share at least as far from a half is if both are chosen alike: exact, two-sided."""
        from scipy.stats import binomtest

        return float(binomtest(self.count, self.total).pvalue) if self.total else float("nan")


@dataclass(frozen=True)
class Preference:
    """How often ours was preferred to a baseline."""

    question: str
    baseline: str  # or "all"
    share: Share


@dataclass(frozen=True)
class Agreement:
    """How often two participants chose the same video of a pair that both saw."""

    question: str
    share: Share  # of pairs of answers; they are not independent, so it has no interval
    kappa: float  # Fleiss's: 0 as by chance, 1 all alike; NaN without two answers about one pair


@dataclass(frozen=True)
class Person:
    """What one participant did."""

    name: str
    pairs: int
    ours: dict[str, Share]  # by question, how often ours was preferred
    agrees: Share  # with answers of others
    first: Share  # of all answers about pairs, how often video 1
    passed: Share  # of the answers about spoilt videos, how often the other one
    seconds: float  # median of a pair


@dataclass(frozen=True)
class Tally:
    """All of it."""

    preferences: list[Preference]
    agreements: list[Agreement]
    first: dict[str, Share]  # by question, how often video 1 of a pair
    first_of_same: dict[str, Share]  # the same where both are one video
    people: list[Person]


def attentive(participant: Participant, key: Key) -> bool:
    """Whether somebody never preferred a spoilt video."""
    share = _passed(participant, key)
    return share.count == share.total


def tally(participants: Sequence[Participant], key: Key) -> Tally:
    """Count all answers."""
    pairs = [answer for one in participants for answer in _of_kind(one.answers, key, PAIR)]
    same = [answer for one in participants for answer in _of_kind(one.answers, key, SAME)]
    return Tally(
        [_preference(pairs, key, name, baseline) for name in ASKED for baseline in (*key.baselines, ALL)],
        [_agreement(participants, key, name) for name in ASKED],
        {name: _first(pairs, [name]) for name in ASKED},
        {name: _first(same, [name]) for name in ASKED},
        [_person(one, participants, key) for one in participants],
    )


def _of_kind(answers: Iterable[Answer], key: Key, kind: str) -> list[Answer]:
    return [answer for answer in answers if key.trials[answer.trial].kind == kind]


def _model(answer: Answer, question: str, key: Key) -> str:
    return key.trials[answer.trial].models[answer.side(question)]


def _preference(pairs: Sequence[Answer], key: Key, question: str, baseline: str) -> Preference:
    against = [a for a in pairs if baseline in (ALL, key.trials[a.trial].baseline)]
    ours = sum(_model(answer, question, key) == key.ours for answer in against)
    return Preference(question, baseline, Share(ours, len(against)))


def _first(answers: Sequence[Answer], questions: Sequence[str]) -> Share:
    chosen = [answer.chosen[name] for answer in answers for name in questions]
    return Share(chosen.count(1), len(chosen))


def _agreement(participants: Sequence[Participant], key: Key, question: str) -> Agreement:
    """Compare all answers about each pair.

    Fleiss's kappa is (P - E) / (1 - E): P the mean over pairs of videos of the share of agreeing pairs of
    answers, E the agreement by chance at the preferences of all. Pairs with fewer than two answers are out.

    Source: Fleiss, Measuring nominal scale agreement among many raters, 1971.
    """
    chosen: dict[str, list[bool]] = {}
    for one in participants:
        for answer in _of_kind(one.answers, key, PAIR):
            chosen.setdefault(answer.trial, []).append(_model(answer, question, key) == key.ours)
    several = [votes for votes in chosen.values() if len(votes) > 1]
    shares = [_alike(votes) for votes in several]
    total = Share(sum(share.count for share in shares), sum(share.total for share in shares))
    if not several:
        return Agreement(question, total, float("nan"))
    observed = sum(share.count / share.total for share in shares) / len(shares)
    votes = [vote for each in several for vote in each]
    ours = sum(votes) / len(votes)
    chance = ours**2 + (1 - ours) ** 2
    return Agreement(question, total, 1.0 if chance == 1 else (observed - chance) / (1 - chance))


def _alike(votes: Sequence[bool]) -> Share:
    """How many pairs of votes are alike."""
    pairs = list(combinations(votes, 2))
    return Share(sum(one == other for one, other in pairs), len(pairs))


def _person(one: Participant, everyone: Sequence[Participant], key: Key) -> Person:
    pairs = _of_kind(one.answers, key, PAIR)
    others = {
        (answer.trial, other.name): answer
        for other in everyone
        if other.name != one.name
        for answer in other.answers
    }
    compared = [
        answer.side(name) == other.side(name)
        for answer in pairs
        for (trial, _), other in others.items()
        if trial == answer.trial
        for name in ASKED
    ]
    return Person(
        one.name,
        len(pairs),
        {name: _preference(pairs, key, name, ALL).share for name in ASKED},
        Share(sum(compared), len(compared)),
        _first(pairs, ASKED),
        _passed(one, key),
        median(answer.seconds for answer in pairs) if pairs else float("nan"),
    )


def _passed(one: Participant, key: Key) -> Share:
    right = [
        answer.side(name) != key.trials[answer.trial].spoilt
        for answer in _of_kind(one.answers, key, SPOILT)
        for name in ASKED
    ]
    return Share(sum(right), len(right))


def preference_table(preferences: Sequence[Preference], ours: str) -> Table:
    """A row a question and baseline."""
    rows = []
    for row in preferences:
        low, high = row.share.interval()
        shares = [rounded(row.share.percent), rounded(low), rounded(high), rounded(row.share.p_value(), 4)]
        rows.append([row.question, row.baseline, str(row.share.total), *shares])
    header = ["question", "against", "answers", f"{ours} preferred, %", "low", "high", "p"]
    return Table(header, rows, words=2)


def agreement_table(result: Tally) -> Table:
    """A row a question: agreement of participants, and bias for video 1."""
    rows = []
    for row in result.agreements:
        first, same = result.first[row.question], result.first_of_same[row.question]
        low, high = first.interval()
        bias = [rounded(first.percent), rounded(low), rounded(high), rounded(same.percent)]
        rows.append([row.question, rounded(row.share.percent), rounded(row.kappa, 2), *bias])
    return Table(["question", "agree, %", "kappa", "video 1, %", "low", "high", "of two alike, %"], rows)


def people_table(people: Sequence[Person]) -> Table:
    """A row a participant."""
    rows = [
        [
            one.name,
            str(one.pairs),
            *(rounded(one.ours[name].percent) for name in ASKED),
            rounded(one.agrees.percent),
            rounded(one.first.percent),
            f"{one.passed.count} of {one.passed.total}",
            rounded(one.seconds),
        ]
        for one in people
    ]
    ours = [f"{name}, %" for name in ASKED]
    header = ["participant", "pairs", *ours, "agrees, %", "video 1, %", "checks", "seconds"]
    return Table(header, rows)


def tally_record(result: Tally) -> dict[str, Any]:
    """All figures, for JSON; shares in percent."""
    return {
        "preferences": [
            {"question": row.question, "against": row.baseline, **_share(row.share), "p": row.share.p_value()}
            for row in result.preferences
        ],
        "agreement": [
            {"question": row.question, "percent": row.share.percent, "kappa": row.kappa}
            for row in result.agreements
        ],
        "video_1": {name: _share(share) for name, share in result.first.items()},
        "video_1_of_two_alike": {name: _share(share) for name, share in result.first_of_same.items()},
        "participants": [
            {
                "name": one.name,
                "pairs": one.pairs,
                "ours": {name: _share(share) for name, share in one.ours.items()},
                "agrees": one.agrees.percent,
                "video_1": one.first.percent,
                "checks": one.passed,
                "median_seconds": one.seconds,
            }
            for one in result.people
        ],
    }


def _share(share: Share) -> dict[str, Any]:
    low, high = share.interval()
    return {"count": share.count, "total": share.total, "percent": share.percent, "low": low, "high": high}
