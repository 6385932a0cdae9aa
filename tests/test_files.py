"""Files are whole or not there, and a failed write leaves no trace."""

import errno
import json
import os
import resource
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest

from t4g_tracker.errors import OutputError
from t4g_tracker.storage.files import (
    atomic_write,
    locked_folder,
    prepare_output_folder,
    replace_folder,
    write_json,
    write_text,
)


def test_json_is_valid_json_whatever_the_numbers(tmp_path):
    run = {"score": float("nan"), "path": Path("a/b"), "list": (1, np.float32(0.5), np.int64(2)), "名": True}
    write_json(tmp_path / "run.json", run)
    text = (tmp_path / "run.json").read_text(encoding="utf-8")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    stored = json.loads(text, parse_constant=refuse)
    assert stored == {"score": None, "path": "a/b", "list": [1, 0.5, 2], "名": True}


def break_off(path, error):
    """Begin to write ``path`` and fail."""
    with atomic_write(path) as temporary:
        temporary.write_text("half of the n")
        raise error


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "the disk is full; free some space"),
        (errno.EACCES, "permission denied; choose another output folder, one you may write to"),
    ],
)
def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, number, remedy):
    path = tmp_path / "tracks.csv"
    path.write_text("old")
    with pytest.raises(OutputError) as caught:
        break_off(path, OSError(number, "no"))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    assert str(caught.value).startswith(f"{path}: cannot be written, {remedy}")
    assert "\n" not in str(caught.value)


def test_our_own_mistake_while_writing_leaves_no_trace_and_stays_what_it_is(tmp_path):
    with pytest.raises(ZeroDivisionError):
        break_off(tmp_path / "a.txt", ZeroDivisionError())
    assert list(tmp_path.iterdir()) == []


def test_the_file_has_its_name_only_once_it_is_whole(tmp_path):
    path = tmp_path / "a.png"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert temporary.parent.parent == tmp_path  # on the same disk
        assert temporary.suffix == ".png"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_get_the_permissions_of_any_new_file_whatever_their_writer_gave_them(tmp_path, umask):
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "file") as temporary:
            temporary.unlink()
            temporary.write_text("as safetensors does it")
            temporary.chmod(0o600)
        with replace_folder(tmp_path / "folder") as temporary:
            (temporary / "weights").write_text("x")
            (temporary / "weights").chmod(0o600)
    finally:
        assert os.umask(before) == umask
    for path in (tmp_path / "file", tmp_path / "folder" / "weights"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["weights"]


def test_a_text_keeps_its_line_ends(tmp_path):
    write_text(tmp_path / "a.csv", "é\r\nb\n")
    assert (tmp_path / "a.csv").read_bytes() == "é\r\nb\n".encode()


def write_half_a_folder(folder):
    with replace_folder(folder) as temporary:
        (temporary / "unet").mkdir()
        (temporary / "unet" / "weights").write_text("half")
        raise ZeroDivisionError


def test_a_folder_is_replaced_when_the_new_one_is_whole_and_other_files_stay(tmp_path):
    for name in ("unet", "refiner"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("old")
    (tmp_path / "checkpoint").write_text("kept")
    with pytest.raises(ZeroDivisionError):
        write_half_a_folder(tmp_path)
    assert (tmp_path / "unet" / "weights").read_text() == "old"
    with replace_folder(tmp_path) as temporary:
        for name in ("unet", "refiner"):
            (temporary / name).mkdir()
            (temporary / name / "config").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "refiner", "unet"]
    assert [path.name for path in (tmp_path / "unet").iterdir()] == ["config"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "model").write_text("a file")
    with pytest.raises(OutputError, match="model"), replace_folder(tmp_path / "model"):
        pass


def test_writing_into_a_missing_folder_says_so(tmp_path):
    with pytest.raises(OutputError, match="its folder does not exist; create it first"):
        write_json(tmp_path / "none" / "run.json", {})


def test_the_output_folder_is_made_and_left_empty(tmp_path):
    folder = prepare_output_folder(tmp_path / "a" / "b", needed_mb=0.001)
    assert folder.is_dir()
    assert list(folder.iterdir()) == []
    assert prepare_output_folder(folder, needed_mb=0.001) == folder


@pytest.mark.parametrize("inner", ["", "deeper"])
def test_a_file_in_the_way_of_the_output_folder_is_named(tmp_path, inner):
    (tmp_path / "taken").write_text("x")
    with pytest.raises(OutputError, match="a file is in the way"):
        prepare_output_folder(tmp_path / "taken" / inner)


def test_too_little_space_is_said_before_any_work(tmp_path):
    with pytest.raises(OutputError, match=r"only \d+ MB are free and 1000000000000 MB may be needed"):
        prepare_output_folder(tmp_path / "out", needed_mb=1e12)


def test_a_folder_that_refuses_files_is_refused(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputError, match="permission denied; choose another output folder, one you may"):
        prepare_output_folder(tmp_path / "out")


def test_a_folder_that_takes_no_more_bytes_is_refused_and_left_empty(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(OutputError, match="out: cannot be written, "):
            prepare_output_folder(tmp_path / "out")
        with pytest.raises(OutputError, match=r"out/run\.json: cannot be written, "):
            write_json(tmp_path / "out" / "run.json", {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_appears_meanwhile_is_replaced(tmp_path):
    with atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("ours")
        write_text(tmp_path / "a.txt", "theirs")
    assert (tmp_path / "a.txt").read_text() == "ours"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_name_of_the_longest_length_can_be_written(tmp_path):
    path = tmp_path / f"{'名' * 83}.json"  # 254 bytes
    write_json(path, {})
    assert path.exists()


HOLD = """
import sys
from t4g_tracker.storage.files import locked_folder

with locked_folder(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_is_for_one_run_at_a_time_until_it_ends_or_is_killed(tmp_path):
    out = tmp_path / "out"
    with locked_folder(out) as folder:
        assert folder == out
        with pytest.raises(
            OutputError, match="out: another run is writing to it; wait for it, or choose another"
        ):
            locked_folder(out).__enter__()
    program = [sys.executable, "-c", HOLD, str(out)]
    run = subprocess.Popen(
        program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    )
    assert run.stdout.readline() == b"held\n"
    with pytest.raises(OutputError, match="another run is writing to it"):
        locked_folder(out).__enter__()
    run.kill()
    run.wait()
    with locked_folder(out):
        pass
    assert list(out.iterdir()) == []


def test_of_many_at_once_one_holds_a_folder_at_any_time(tmp_path):
    inside, most, refused = [], [], []

    def hold(number):
        for _ in range(100):
            try:
                with locked_folder(tmp_path):
                    inside.append(number)
                    most.append(len(inside))
                    inside.remove(number)
            except OutputError:
                refused.append(number)

    threads = [threading.Thread(target=hold, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}
    assert len(most) + len(refused) == 400
