"""What killed runs leave unfinished is removed; what a living one is writing stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t4g_tracker.errors import OutputError
from t4g_tracker.storage.files import replace_folder
from t4g_tracker.storage.unfinished import OLD_S, remove_leftovers, unfinished_folder

WRITER = """
import sys
from pathlib import Path
from t4g_tracker.storage.unfinished import unfinished_folder

with unfinished_folder(Path(sys.argv[1])) as unfinished:
    (unfinished / "partial.pt").write_text("half of the")
    print("writing", flush=True)
    sys.stdin.read()
"""


def leave(folder):
    """Make what a killed writer leaves: a folder with half a file, locked by nobody."""
    with unfinished_folder(folder) as unfinished:
        (unfinished / "partial.pt").write_text("half of the")
        kept = unfinished.rename(folder / "kept")
    return kept.rename(unfinished)


def make_old(path, age_s=OLD_S + 60):
    for part in (*path.rglob("*"), path):
        os.utime(part, (time.time() - age_s,) * 2)


def test_what_a_process_writes_stays_until_it_is_killed(tmp_path):
    program = [sys.executable, "-c", WRITER, str(tmp_path)]
    run = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert run.stdout.readline() == b"writing\n"
    (unfinished,) = tmp_path.iterdir()
    make_old(unfinished)  # a lock counts for more than any age
    remove_leftovers(tmp_path)
    assert (unfinished / "partial.pt").exists()
    run.kill()
    run.wait()
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_this_process_writes_stays(tmp_path):
    with unfinished_folder(tmp_path) as unfinished:
        (unfinished / "partial.pt").write_text("half of the")
        (unfinished / "partial.pt").unlink()
        (unfinished / "partial.pt").write_text("written anew, as safetensors does it")
        remove_leftovers(tmp_path)
        assert (unfinished / "partial.pt").exists()
    assert not list(tmp_path.iterdir())


def test_what_another_machine_left_is_removed_when_nobody_has_written_to_it_for_a_day(tmp_path):
    left = leave(tmp_path)
    left = left.rename(tmp_path / f".t4g-00000000{left.name[13:]}")
    remove_leftovers(tmp_path)
    assert left.exists()
    make_old(left)
    os.utime(left / "partial.pt")
    remove_leftovers(tmp_path)
    assert left.exists()
    make_old(left)
    remove_leftovers(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", [".features-abc.71.partial.pt", ".run.7.partial", ".writable.71"])
def test_what_earlier_versions_left_is_removed_when_it_is_old(tmp_path, name):
    path = tmp_path / name
    path.write_text("half of the")
    remove_leftovers(tmp_path)
    assert path.exists()
    make_old(path)
    remove_leftovers(tmp_path)
    assert not path.exists()


def test_folders_of_earlier_versions_are_removed_when_old_unless_they_hold_what_was_replaced(tmp_path):
    for name in (".71.partial", ".72.partial"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").touch()
    (tmp_path / ".72.partial" / "replaced").mkdir()
    for path in tmp_path.iterdir():
        make_old(path)
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".72.partial"]


@pytest.mark.parametrize(
    "name",
    ["a.partial.pt", ".a.partial.pt", ".partial", ".t4g-notes", "71.partial", ".writable", "tracks.npz"],
)
def test_files_of_others_stay_however_old(tmp_path, name):
    (tmp_path / name).write_text("mine")
    (tmp_path / f"{name}.d").mkdir()
    for path in list(tmp_path.iterdir()):
        make_old(path)
    remove_leftovers(tmp_path)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_link_of_such_a_name_is_not_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    inside = tmp_path / "inside"
    inside.mkdir()
    name = leave(inside).rename(tmp_path / "away").name
    (inside / f".t4g-00000000-{'0' * 16}.partial").symlink_to(tmp_path / "mine")
    (inside / ".71.partial").symlink_to(tmp_path / "mine")
    make_old(tmp_path / "mine")
    remove_leftovers(inside)
    assert (tmp_path / "mine" / "file").exists()
    assert name == "away"


def test_a_folder_that_is_not_there_has_no_leftovers(tmp_path):
    remove_leftovers(tmp_path / "none")


OLD = {"notes": "mine", "refiner": "old", "tracks": "old", "unet/old": "old"}
NEW = {"added": "new", "refiner": "new", "tracks": "new", "unet/new": "new"}


def texts_in(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def fill(folder, texts):
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def replace(folder):
    with replace_folder(folder) as unfinished:
        fill(unfinished, NEW)


def fail_at(monkeypatch, turn, error, after=False, lasting=False):
    """Let one move fail: before it is made or ``after``; if ``lasting``, all later ones too."""
    turns, move = [], Path.replace

    def failing(self, target):
        turns.append(self)
        fails = len(turns) == turn or (lasting and len(turns) > turn)
        if fails and not after:
            raise error
        moved = move(self, target)
        if fails:
            raise error
        return moved

    monkeypatch.setattr(Path, "replace", failing)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("turn", range(1, 6))  # added, refiner, tracks, the old unet, the new one
@pytest.mark.parametrize("error", [KeyboardInterrupt(), PermissionError(1, "Operation not permitted")])
@pytest.mark.parametrize("links", [True, False])
def test_a_replacement_that_fails_between_two_moves_changes_nothing(
    tmp_path, monkeypatch, turn, error, after, links
):
    fill(tmp_path, OLD)
    if not links:
        monkeypatch.setattr(os, "link", lambda *_: os.open("", 0))
    fail_at(monkeypatch, turn, error, after)
    with pytest.raises((KeyboardInterrupt, OutputError)):
        replace(tmp_path)
    monkeypatch.undo()
    assert texts_in(tmp_path) == OLD
    replace(tmp_path)
    assert texts_in(tmp_path) == {"notes": "mine", **NEW}


@pytest.mark.parametrize("turn", range(1, 6))
def test_a_replacement_that_can_neither_end_nor_go_back_is_finished_later(tmp_path, monkeypatch, turn):
    fill(tmp_path, OLD)
    fail_at(monkeypatch, turn, KeyboardInterrupt(), after=True, lasting=True)
    with pytest.raises(KeyboardInterrupt):
        replace(tmp_path)
    monkeypatch.undo()
    remove_leftovers(tmp_path)
    assert texts_in(tmp_path) == {"notes": "mine", **NEW}
