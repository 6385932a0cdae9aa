"""What killed runs leave unfinished is removed; what a living one is writing stays."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from t4g_tracker.storage.files import replace_folder
from t4g_tracker.storage.unfinished import OLD_S, REPLACED, remove_leftovers, unfinished_folder

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


def test_a_replacement_that_is_killed_between_two_moves_is_finished(tmp_path, monkeypatch):
    (tmp_path / "refiner").mkdir()
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "old").touch()
    moved, rename = [], Path.rename

    class Killed(BaseException):
        pass

    def killed_at_the_third(self, target):
        moved.append(self)
        if len(moved) == 4:  # the new refiner is in place, the old unet is away, the new one not yet there
            rename(self.parent, tmp_path / "kept")
            raise Killed
        return rename(self, target)

    def replace():
        with replace_folder(tmp_path) as unfinished:
            for part in ("refiner", "unet"):
                (unfinished / part).mkdir()
                (unfinished / part / "new").touch()

    monkeypatch.setattr(Path, "rename", killed_at_the_third)
    with pytest.raises(Killed):
        replace()
    monkeypatch.undo()
    left = (tmp_path / "kept").rename(moved[-1].parent)
    assert not (tmp_path / "unet").exists()
    assert (left / REPLACED / "unet" / "old").exists()
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["refiner", "unet"]
    assert [path.name for path in (tmp_path / "unet").iterdir()] == ["new"]
