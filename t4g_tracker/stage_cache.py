"""Cached stages whose keys are never incomplete: a stage sees nothing that is not part of its key.

A stage is a plain function of settings, inputs and facts, and its key is made of the same three. So
anything that could change its value changes its key, and the key of every stage after it. Keys are known
at once; values are computed, or read from the cache, when they are first needed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Generic, TypeVar

import torch

from t4g_tracker.datatypes import Empty
from t4g_tracker.errors import Interrupted
from t4g_tracker.stage_log import Bar, StageLog, no_bar
from t4g_tracker.storage.cache import Cache, make_key, pack, unpack
from t4g_tracker.storage.files import plain_values
from t4g_tracker.storage.long_arrays import LongArrays

Value = TypeVar("Value")
Stop = Callable[[], AbstractContextManager[Callable[[], bool]]]


def never() -> AbstractContextManager[Callable[[], bool]]:
    """A ``Stop`` that never stops a stage."""
    return nullcontext(lambda: False)


class Node(Generic[Value]):
    """A value that is computed on first use, and its key: two equal keys mean equal values.

    Args:
        key: Known before the value is.
        compute: Returns the value; called once, when it is first needed.
        cached: Whether the cache held the value when the key was made.
    """

    def __init__(self, key: str, compute: Callable[[], Value], cached: bool = False) -> None:
        self.key, self.cached = key, cached
        self._compute: Callable[[], Value] | None = compute
        self._value: Value | None = None
        self._lock = RLock()  # threads that need a value at once compute it once

    @property
    def value(self) -> Value:
        with self._lock:
            if self._compute is not None:
                self._value, self._compute = self._compute(), None  # releases what it was computed from
        return self._value  # type: ignore[return-value]

    def ensure(self) -> None:
        """Compute or read the value now, so that a later use takes no time."""
        _ = self.value


@dataclass(frozen=True)
class Checkpoint:
    """Where a long stage saves its state, to resume after an interruption."""

    cache: Cache | None
    key: str

    def exists(self) -> bool:
        return self.cache is not None and self.cache.has("checkpoint", self.key)

    def load(self) -> Any | None:
        return None if self.cache is None else self.cache.load("checkpoint", self.key)

    def save(self, state: Any) -> None:
        if self.cache is not None:
            self.cache.save("checkpoint", self.key, state)

    def remove(self) -> None:
        if self.cache is not None:
            self.cache.remove("checkpoint", self.key)


@dataclass(frozen=True)
class Controls:
    """What a running stage may use without changing its value, and so without being part of its key."""

    report: Callable[..., None]  # takes (done, in all) and optionally a note
    stop: Stop  # entered by a stage that can stop between steps; in all others Ctrl-C interrupts at once
    checkpoint: Checkpoint
    empty: Empty  # makes what is as long as the video


@dataclass(frozen=True)
class Run:
    """Where and how the stages of a video run.

    ``cache`` None caches nothing. ``stop`` is entered by stages that can end between steps; it yields a
    function that they call there, and that returns True to end them.
    """

    device: torch.device
    seed: int = 0
    cache: Cache | None = None
    bar: Bar = no_bar
    stop: Stop = never
    log: StageLog = field(default_factory=StageLog)


@dataclass(frozen=True)
class Stages:
    """Makes the stages of one video."""

    run: Run
    cache: Cache | None  # the part of the run's cache that belongs to the video
    arrays: LongArrays = field(default_factory=LongArrays)  # where arrays as long as the video are

    def stage(
        self,
        name: str,
        kind: type[Value],
        compute: Callable[..., Value],
        *,
        settings: Any,
        inputs: dict[str, Node[Any]],
        weights: str = "",
        unit: str = "step",
        seconds: Callable[[Value], float] | None = None,
        **facts: Any,
    ) -> Node[Value]:
        """Make a stage: compute its key now, and its value when it is first needed.

        Args:
            name: Names the stage in the cache, the log and the progress bar.
            kind: Type of the value, a dataclass of tensors and plain values.
            compute: Called as ``compute(settings, controls, **inputs, **facts)``, with the inputs' values.
                It must be a function of a module, not a closure, so that it can use nothing else.
            settings: A dataclass or a tuple of them: the settings that matter to this stage, no others.
            inputs: Values of earlier stages, by the names of ``compute``'s parameters.
            weights: Identity of the model files that the stage reads.
            unit: What the progress bar counts.
            seconds: Returns the recorded time of a value that took more than this call; None: this call's.
            facts: Further arguments of ``compute``: seed, device, sizes.
        """
        key = make_key(
            stage=name,
            settings=plain_values(settings),
            inputs={name: node.key for name, node in inputs.items()},
            weights=weights,
            facts=_plain(facts),
        )
        checkpoint = Checkpoint(self.cache, key)
        if self.cache is not None:
            self.cache.forget_older(name, key)
            self.cache.forget_older("checkpoint", key)

        def value() -> Value:
            cached = self._cached(name, key, kind)
            if cached is not None:
                checkpoint.remove()  # there is one if the run was killed before it could remove it
                return cached
            values = {name: node.value for name, node in inputs.items()}  # runs the stages before this one
            log = self.run.log
            with log.stage(name), self.run.bar(name, unit) as report:
                begin = time.perf_counter()
                controls = Controls(report, self.run.stop, checkpoint, self.arrays.empty)
                with _told_what_is_kept(name, checkpoint):
                    result = compute(settings, controls, **values, **facts)
                spent = time.perf_counter() - begin if seconds is None else seconds(result)
                log.counted.add(key)
                log.ran.add(name)
                if self.cache is not None:
                    self.cache.save(name, key, pack(result), spent)
                checkpoint.remove()
            return result

        return Node(key, value, self.cache is not None and self.cache.has(name, key))

    def derived(
        self, name: str, compute: Callable[..., Value], node: Node[Any], long: bool = False, **facts: Any
    ) -> Node[Value]:
        """Make a value that is too cheap to cache; its time counts for the stage ``name``.

        One that is ``long`` as the video is computed with ``empty=``, which makes arrays.
        """
        key = make_key(derived=compute.__name__, input=node.key, facts=_plain(facts))

        def value() -> Value:
            source = node.value
            with self.run.log.stage(name):
                return compute(source, **facts, **({"empty": self.arrays.empty} if long else {}))

        return Node(key, value)

    def _cached(self, name: str, key: str, kind: type[Value]) -> Value | None:
        """Load the value of a stage from the cache; None if it is not there."""
        if self.cache is None or not self.cache.has(name, key):
            return None
        with self.run.log.stage(name):
            entry = self.cache.load_timed(name, key, self.arrays)
            if entry is None:
                return None
            self.run.log.add_cached(name, key, entry[1])
            return unpack(kind, entry[0], self.cache.path(name, key))


@contextmanager
def _told_what_is_kept(name: str, checkpoint: Checkpoint) -> Iterator[None]:
    """Turn a Ctrl-C that ends a stage into ``Interrupted``, which says whether the stage will start over."""
    try:
        yield
    except Interrupted:  # the stage itself has said it
        raise
    except KeyboardInterrupt as interrupt:
        then = "resumes from the last checkpoint" if checkpoint.exists() else "starts this stage over"
        raise Interrupted(f"interrupted in the stage {name}", then) from interrupt


def _plain(facts: dict[str, Any]) -> Any:
    """Convert facts to JSON's types; a device becomes its type, since all GPUs count as one."""
    return plain_values(
        {name: fact.type if isinstance(fact, torch.device) else fact for name, fact in facts.items()}
    )
