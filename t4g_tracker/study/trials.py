"""What a study shows: pairs of videos of one scene, chosen at random, and attention checks among them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from t4g_tracker.errors import StudyError, warn
from t4g_tracker.outputs.generated import GeneratedFolder, Scene

PAIR, SAME, SPOILT = "pair", "same", "spoilt"  # kinds of trials


@dataclass(frozen=True)
class Side:
    """One of the two videos of a trial."""

    model: str
    spoilt: bool = False  # its frames are made coarse and shuffled: nobody who looks prefers it


@dataclass(frozen=True)
class Trial:
    """Two videos of one scene to choose from.

    A ``pair`` has ours and a baseline's; ``same`` is one video twice, which has no right answer and shows
    a bias for one place; ``spoilt`` is a video and the same one spoilt, which shows who pays attention.
    """

    kind: str
    scene: Scene
    sides: tuple[Side, Side]  # in the order that the page lists them
    baseline: str = ""  # of a pair


def choose_trials(
    generated: GeneratedFolder, ours: str, baselines: Sequence[str], pairs: int, checks: int, seed: int
) -> list[Trial]:
    """Choose pairs of videos at random, and attention checks.

    Baselines come up equally often, to within one pair, and so do scenes as far as possible; no pair comes
    up twice. Which side is listed first is decided by a fair coin for each trial.

    Args:
        generated: What was generated.
        ours: The model that is compared with each of the baselines.
        baselines: Other models.
        pairs: How many pairs, at least 1.
        checks: How many attention checks of each kind.
        seed: The same seed makes the same trials.

    Raises:
        StudyError: If a model has no videos, or there are fewer different pairs.
    """
    _check_models(generated.models, ours, baselines)
    scenes = generated.scenes
    chance = random.Random(seed)
    turns = chance.sample(list(baselines), len(baselines))
    trials: list[Trial] = []
    for number in range(pairs):
        baseline = turns[number % len(turns)]
        scene = _least_used(scenes, ours, baseline, trials, chance)
        trials.append(Trial(PAIR, scene, _shuffled(Side(ours), Side(baseline), chance), baseline))
    for _ in range(checks):
        for kind in (SAME, SPOILT):
            scene = chance.choice(scenes)
            model = chance.choice(sorted(scene.videos))
            sides = _shuffled(Side(model), Side(model, kind == SPOILT), chance)
            trials.append(Trial(kind, scene, sides))
    chance.shuffle(trials)
    return trials


def warn_of_unlike(generated: GeneratedFolder, trials: Sequence[Trial]) -> None:
    """Warn if the two videos of a pair were not generated alike, as far as their record tells."""
    unlike: dict[str, list[Trial]] = {}
    for trial in trials:
        models = [side.model for side in trial.sides]
        if trial.kind == PAIR:
            for what in generated.recorded.unlike(trial.scene.image, trial.scene.seed, models):
                unlike.setdefault(what, []).append(trial)
    if unlike:
        told = ", ".join(f"{what} ({len(found)} of them)" for what, found in unlike.items())
        scene = next(iter(unlike.values()))[0].scene
        warn(
            f"{generated.path}: videos of some pairs differ in {told}, such as those of {scene.image} with "
            f"seed {scene.seed}; generate all by one t4g generate, or take people's preference with care"
        )


def _check_models(known: Sequence[str], ours: str, baselines: Sequence[str]) -> None:
    """Refuse names of models that generated nothing, or that are given twice."""
    for model in (ours, *baselines):
        if model not in known:
            raise StudyError(f"{model}: has no generated videos; models are {', '.join(known)}")
    if len({ours, *baselines}) <= len(baselines):
        raise StudyError(f"{ours} and {', '.join(baselines)}: a model is named twice; name each once")


def _least_used(
    scenes: Sequence[Scene], ours: str, baseline: str, taken: Sequence[Trial], chance: random.Random
) -> Scene:
    """Choose a scene for a new pair: of those whose image came up least, one that itself came up least."""
    both = [scene for scene in scenes if {ours, baseline} <= scene.videos.keys()]
    used = [trial.scene for trial in taken if trial.baseline == baseline]
    free = [scene for scene in both if scene not in used]
    if not free:
        raise StudyError(
            f"{ours} and {baseline}: have {len(both)} scenes in common, too few for that many pairs; "
            "ask for fewer --pairs, or generate more images or seeds"
        )
    images = Counter(trial.scene.image for trial in taken)
    seeds = Counter((trial.scene.image, trial.scene.seed) for trial in taken)

    def uses(scene: Scene) -> tuple[int, int]:
        return images[scene.image], seeds[scene.image, scene.seed]

    least = min(map(uses, free))
    return chance.choice([scene for scene in free if uses(scene) == least])


def _shuffled(one: Side, other: Side, chance: random.Random) -> tuple[Side, Side]:
    return (one, other) if chance.random() < 0.5 else (other, one)
