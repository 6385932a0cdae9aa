"""Data workers: batches in order from other processes, which may die at any moment."""

from __future__ import annotations

import gc
import multiprocessing
import multiprocessing.connection
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import pytest
import torch
from tiny_training import CONFIG, Batch, Fit, Lines, assert_same, checkpoint, fit, stack
from torch import Tensor

from t4g_tracker.errors import OutputError, TrainingError
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.training.loop import data_workers
from t4g_tracker.training.loop.batches import ItemOrder, batches_from
from t4g_tracker.training.loop.data_workers import AHEAD, default_workers, generate_ahead
from t4g_tracker.training.loop.trainer import HISTORY

DEADLINE_S = 120  # for what takes a moment: reached only where it never happens
LOST = r"a data worker was killed \(exit code -9\), .*run the same command to resume.*lower trainer\.workers"
ORDER = ItemOrder(count=16, batch=2, processes=1, process=0, seed=0)


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def kill_workers() -> None:
    """Kill every data worker, and return when they are dead; nobody is told but by SIGCHLD."""
    workers = multiprocessing.active_children()
    assert workers
    for worker in workers:
        worker.kill()
    for worker in workers:
        multiprocessing.connection.wait([worker.sentinel])


@dataclass(frozen=True)
class Happening(Lines):
    """Lines, but from an item on something happens where the item is generated."""

    what: Callable[[], None]
    step: int = 25

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        if item[1] >= self.step * CONFIG.batch:
            self.what()
        return super().__getitem__(item)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_in_the_middle_of_a_message() -> None:
    """Half-way through the message after the next one, that is."""

    def send_half(connection, content) -> None:
        os.write(connection.fileno(), struct.pack("!i", len(content)) + content[: len(content) // 2])
        die()

    multiprocessing.connection.Connection.send_bytes = send_half


def report_a_full_disk() -> None:
    raise OutputError("clips: the disk is full")


def stumble() -> None:
    raise KeyError("no such clip")


class Stubborn(Exception):
    """Cannot be made from its pickle."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def be_stubborn() -> None:
    raise Stubborn("one", "two")


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing_interrupted_or_not(tmp_path, workers):
    whole, _ = fit(tmp_path / "whole")
    asked = iter(range(14))
    _, finished = fit(
        tmp_path / "parts", replace(CONFIG, workers=workers), stop=lambda: next(asked, None) is None
    )
    assert not finished
    assert checkpoint(tmp_path / "parts")["step"] == 14
    parts, _ = fit(tmp_path / "parts", replace(CONFIG, workers=workers))
    assert_same(parts, whole)


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_batches_are_the_same_however_workers_start(method):
    context = multiprocessing.get_context(method)
    here, there = (
        batches_from(Lines(), stack, ORDER, 3, workers, context if workers else None) for workers in (0, 2)
    )
    for _ in range(10):
        assert torch.equal(next(there).x, next(here).x)
    there.close()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("death", [die, die_in_the_middle_of_a_message])
def test_a_killed_worker_ends_the_training_with_one_line_and_the_state_is_saved(tmp_path, death, workers):
    whole, _ = fit(tmp_path / "whole")
    folder, config = tmp_path / "parts", replace(CONFIG, workers=workers)
    with pytest.raises(TrainingError, match=LOST) as caught:
        fit(folder, config, Happening(death))
    assert "\n" not in str(caught.value)
    delivered = 25 if death is die else 25 + workers  # who dies in a message has sent one more before
    assert checkpoint(folder)["step"] == delivered
    resumed, finished = fit(folder, config)
    assert finished
    assert_same(resumed, whole)


@pytest.mark.parametrize("place", ["a step", "a validation", "the writing of a checkpoint"])
def test_workers_may_die_during(place, tmp_path, monkeypatch):
    """Their loss surfaces where the next batch is taken, never in what the main thread is at."""
    steps, killed_at, survived = [], [], []

    def kill_at(step: int) -> None:
        if len(steps) == step and not killed_at:
            killed_at.append(len(steps))
            kill_workers()
            time.sleep(0.01)  # where a signal's handler would run at the latest
            survived.append(True)

    class Watched(Fit):
        def forward(self, batch: Batch) -> dict[str, Tensor]:
            steps.append(1)
            if place == "a step":
                kill_at(12)
            return super().forward(batch)

    def validate(averaged):
        if place == "a validation":
            kill_at(10)
        return {}

    save = torch.save

    def slow_save(*args, **kwargs):
        if place == "the writing of a checkpoint":
            kill_at(5)
        save(*args, **kwargs)

    monkeypatch.setattr(torch, "save", slow_save)
    whole, _ = fit(tmp_path / "whole")
    steps.clear()
    config = replace(CONFIG, workers=2, save_every_s=0.0)
    with monkeypatch.context() as patched:
        patched.setattr("t4g_tracker.training.loop.trainer.SAVING_SHARE", float("inf"))  # save at every step
        with pytest.raises(TrainingError, match=LOST):
            fit(tmp_path / "parts", config, objective=Watched(), validate=validate)
    assert survived
    assert killed_at[0] <= len(steps) <= killed_at[0] + 2 * AHEAD  # batches in hand are used up first
    assert checkpoint(tmp_path / "parts")["step"] == len(steps)
    resumed, _ = fit(tmp_path / "parts", config)
    assert_same(resumed, whole)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_an_error_in_an_item_is_raised_in_its_turn_and_the_state_is_saved(tmp_path, workers):
    with pytest.raises(OutputError) as caught:
        fit(tmp_path, replace(CONFIG, workers=workers), Happening(report_a_full_disk, 2))
    assert str(caught.value) == "clips: the disk is full"
    assert checkpoint(tmp_path)["step"] == 2


def test_a_bug_in_an_item_shows_where_it_is():
    with pytest.raises(KeyError, match="no such clip") as caught:
        next(batches_from(Happening(stumble, 0), stack, ORDER, 0, workers=1))
    assert 'raise KeyError("no such clip")' in caught.value.__notes__[0]


def test_an_exception_that_cannot_travel_is_told_in_words():
    with pytest.raises(TypeError):
        pickle.loads(pickle.dumps(Stubborn("one", "two")))
    with pytest.raises(RuntimeError, match="Stubborn: one and two"):
        next(batches_from(Happening(be_stubborn, 0), stack, ORDER, 0, workers=1))


@dataclass(frozen=True)
class Touching(Lines):
    """Lines that leave a file in a folder for every item that is generated."""

    folder: Path

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        (self.folder / str(item[1])).touch()
        return super().__getitem__(item)


def test_no_more_batches_are_generated_ahead_than_memory_is_meant_for(tmp_path):
    batches = batches_from(Touching(tmp_path), stack, replace(ORDER, batch=1), 0, workers=1)
    for taken in range(1, 4):
        next(batches)
        wait_until(lambda taken=taken: len(list(tmp_path.iterdir())) >= taken + AHEAD)
        time.sleep(0.05)  # in which more would come
        assert len(list(tmp_path.iterdir())) == taken + AHEAD
    batches.close()


@dataclass(frozen=True)
class Slow(Lines):
    """Lines of which one takes ten minutes, in the middle of writing a file of the worker's own."""

    folder: Path

    def __getitem__(self, item: tuple[int, int]) -> Tensor:
        if item[1] == 3 * CONFIG.batch:
            with atomic_write(self.folder / "clip.npz") as passing:
                passing.write_bytes(b"half")
                time.sleep(600)
        return super().__getitem__(item)


def test_workers_end_at_once_and_leave_no_half_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(data_workers, "GRACE_S", float(DEADLINE_S))  # killing would leave it
    batches = batches_from(Slow(tmp_path), stack, ORDER, 0, workers=2)
    next(batches)
    wait_until(lambda: any(tmp_path.iterdir()))
    batches.close()
    assert not multiprocessing.active_children()
    assert not list(tmp_path.iterdir())


def refuse_to_end(step: int) -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    return step


def test_a_worker_that_does_not_end_is_killed(monkeypatch):
    monkeypatch.setattr(data_workers, "GRACE_S", 0.1)
    batches = generate_ahead(refuse_to_end, 0, 1)
    assert next(batches) == 0
    batches.close()
    assert not multiprocessing.active_children()


TRAIN_SLOWLY = """
import sys
from dataclasses import replace
from pathlib import Path
from tests.test_data_workers import CONFIG, Slow, fit
fit(Path(sys.argv[1]) / "run", replace(CONFIG, workers=2), Slow(Path(sys.argv[1])))
"""


def test_workers_end_when_the_training_is_killed(tmp_path):
    """One is in the middle of an item then, and the other waits."""
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(root), str(root / "tests")))}
    run = subprocess.Popen([sys.executable, "-c", TRAIN_SLOWLY, tmp_path], env=environment, cwd=root)
    wait_until(lambda: any(tmp_path.glob(".*partial*")) or run.poll() is not None)
    workers = psutil.Process(run.pid).children(recursive=True)
    assert len(workers) >= 2
    run.kill()
    run.wait()
    wait_until(lambda: not any(alive(worker) for worker in workers))


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("end", [None, interrupt, die, report_a_full_disk])
def test_a_training_leaves_the_process_as_it_was(tmp_path, end):
    """However it ends, it adds no process, thread, open file or signal handler; while it runs, no handler."""

    def handlers() -> dict:
        return {number: signal.getsignal(number) for number in signal.valid_signals()}

    def open_files() -> int:
        gc.collect()
        return psutil.Process().num_fds()

    class Interrupted(Fit):
        steps = 0

        def forward(self, batch: Batch) -> dict[str, Tensor]:
            self.steps += 1
            if end is interrupt and self.steps == 25:
                interrupt()
            return super().forward(batch)

    def train(folder: Path) -> None:
        items = Happening(end) if end in (die, report_a_full_disk) else Lines()
        try:
            fit(folder, replace(CONFIG, workers=2), items, Interrupted(), validate)
            assert end is None
        except (KeyboardInterrupt, TrainingError, OutputError):
            assert end is not None

    def validate(averaged) -> dict[str, float]:
        assert handlers() == handlers_before
        return {}

    handlers_before = handlers()
    train(tmp_path / "first")
    before = open_files()  # the libraries have opened theirs
    train(tmp_path / "second")
    assert open_files() <= before
    assert not multiprocessing.active_children()
    assert not [thread for thread in threading.enumerate() if "data worker" in thread.name]
    assert handlers() == handlers_before
    assert (tmp_path / "second" / HISTORY).exists()


def test_a_program_that_ignores_its_children_can_train(tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        _, finished = fit(tmp_path, replace(CONFIG, steps=12, workers=2))
        assert finished
        with pytest.raises(TrainingError, match="a data worker was killed"):
            fit(tmp_path, replace(CONFIG, workers=2), Happening(die))
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_beside_a_gpu_the_workers_take_every_core_but_one_and_on_a_cpu_there_is_one(monkeypatch):
    monkeypatch.setattr(data_workers, "cores", lambda: 16)
    gpu = torch.device("cuda")
    assert [default_workers(gpu, processes) for processes in (1, 4, 16)] == [15, 3, 1]
    assert default_workers(torch.device("cpu"), 1) == 1
