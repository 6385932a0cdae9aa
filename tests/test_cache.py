"""The cache: what is kept is believed only when it is whole and belongs to what is asked."""

import errno
import multiprocessing
import os
import pickle
import pwd
import random
import re
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

import run_tracker
from t4g_tracker.commands.track import parse_track
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import CacheError, OutputError
from t4g_tracker.storage.cache import Cache, make_key, pack, unpack
from t4g_tracker.storage.files import default_cache_folder

PAYLOAD = {
    "values": torch.arange(5000.0),
    "size": (3, 4),
    "steps": {0: torch.ones(2)},
    "note": [1, None, "x"],
}


@pytest.fixture
def cache(tmp_path):
    found = Cache(tmp_path / "kept")
    found.save("features", "abc", PAYLOAD)
    return found


def test_what_is_kept_comes_back(cache):
    found = cache.load("features", "abc")
    assert torch.equal(found["values"], PAYLOAD["values"])
    assert {name: found[name] for name in ("size", "note")} == {"size": (3, 4), "note": [1, None, "x"]}
    assert list(found["steps"]) == [0]


def test_nothing_is_found_under_another_key_or_kind_or_after_removal(cache):
    assert cache.load("features", "abd") is None
    assert cache.load("flow", "abc") is None
    cache.remove("features", "abc")
    assert cache.load("features", "abc") is None
    cache.remove("features", "abc")  # once more does no harm


@pytest.mark.parametrize("written_s", [-60, 0, 24 * 3600])
def test_a_fresh_run_finds_nothing_but_what_it_wrote_itself_whatever_the_clock_says(cache, written_s):
    written = time.time() + written_s
    os.utime(cache.path("features", "abc"), (written, written))
    fresh = Cache.open(cache.folder, fresh=True)
    assert not fresh.has("features", "abc")
    assert fresh.load("features", "abc") is None
    fresh.save("features", "abc", "new")
    os.utime(cache.path("features", "abc"), (written, written))
    assert fresh.has("features", "abc")
    assert fresh.load("features", "abc") == cache.load("features", "abc") == "new"


def test_the_workers_of_a_fresh_run_find_what_others_of_it_wrote_and_other_fresh_runs_do_not(cache):
    fresh = Cache.open(cache.folder, fresh=True)
    worker = pickle.loads(pickle.dumps(fresh)).of("a" * 64)
    fresh.of("a" * 64).save("features", "abc", "new")
    assert worker.load("features", "abc") == "new"
    assert Cache.open(cache.folder, fresh=True).of("a" * 64).load("features", "abc") is None


def test_a_fresh_run_drops_the_entries_of_others_and_only_those(cache):
    fresh = Cache.open(cache.folder, fresh=True)
    fresh.save("flow", "abc", "new")
    for kind in ("features", "flow", "nothing"):
        cache.forget_older(kind, "abc")
    assert cache.has("features", "abc")
    for kind in ("features", "flow", "nothing"):
        fresh.forget_older(kind, "abc")
    assert not cache.has("features", "abc")
    assert cache.has("flow", "abc")


def test_a_fresh_run_gets_past_a_damaged_entry(cache):
    cache.path("features", "abc").write_bytes(b"nothing of use")
    fresh = Cache.open(cache.folder, fresh=True)
    assert not fresh.has("features", "abc")
    fresh.forget_older("features", "abc")
    assert fresh.load("features", "abc") is None


def test_a_run_that_is_not_fresh_finds_what_earlier_ones_left(cache):
    assert Cache.open(cache.folder, fresh=False).load("features", "abc") is not None


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_an_entry_that_is_cut_short_is_refused_by_name(cache, keep):
    path = cache.path("features", "abc")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(CacheError, match="is cut short or damaged; delete it or run with --fresh") as caught:
        cache.load("features", "abc")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def found_or_refused(cache):
    """Load the entry; returns its payload and the error, one of them None."""
    try:
        return cache.load("features", "abc"), None
    except CacheError as error:
        return None, str(error)


def test_changed_bytes_are_refused_or_change_nothing(cache):
    path = cache.path("features", "abc")
    whole, chance, refused = path.read_bytes(), random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(whole)
        begin, length = chance.randrange(len(whole)), chance.choice([1, 4, 64, 2000])
        for place in range(begin, min(begin + length, len(whole))):
            damaged[place] = chance.randrange(256)
        path.write_bytes(damaged)
        found, error = found_or_refused(cache)
        if error:
            refused += 1
            assert re.fullmatch(f"{path}: is .*; delete it or run with --fresh", error)
        else:  # within what the format leaves unused
            assert torch.equal(found["values"], PAYLOAD["values"])
            assert torch.equal(found["steps"][0], PAYLOAD["steps"][0])
            assert (found["size"], found["note"]) == (PAYLOAD["size"], PAYLOAD["note"])
    assert refused > 150


@pytest.mark.parametrize(
    "edit",
    [
        lambda entry: entry["payload"]["values"].mul_(2),
        lambda entry: entry["payload"]["values"].__setitem__(0, float("nan")),
        lambda entry: entry["payload"].update(values=torch.zeros(3, 4)),
        lambda entry: entry["payload"].update(size=[3, 4]),
        lambda entry: entry["payload"]["steps"].clear(),
        lambda entry: entry["payload"].pop("note"),
        lambda entry: entry.pop("payload"),
        lambda entry: entry.pop("digest"),
        lambda entry: entry.update(seconds="a while"),
        lambda entry: entry.update(seconds=float("nan")),
    ],
)
def test_an_entry_that_was_edited_and_saved_again_is_refused_by_name(cache, edit):
    path = cache.path("features", "abc")
    entry = torch.load(path)
    edit(entry)
    torch.save(entry, path)
    with pytest.raises(CacheError, match="is damaged, its content is not what was saved; delete it or run"):
        cache.load("features", "abc")


@pytest.mark.parametrize("content", [5, [1], {}, {"key": "abc", "kind": "features", "payload": 1}])
def test_a_file_that_is_no_entry_is_refused_by_name(cache, content):
    torch.save(content, cache.path("features", "abc"))
    with pytest.raises(CacheError, match="is damaged, its content is not what was saved"):
        cache.load("features", "abc")


def test_lack_of_memory_and_of_permission_are_not_called_damage(cache, monkeypatch):
    def hungry(*_, **__):
        return torch.empty(2**55)

    def failing(*_, **__):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(torch, "load", hungry)
    with pytest.raises(CacheError, match=r"cannot be read \(out of memory\); end other programs, or use"):
        cache.load("features", "abc")
    monkeypatch.setattr(torch, "load", failing)
    with pytest.raises(
        CacheError, match=r"cannot be read \(input/output error\); make it readable, or choose"
    ):
        cache.load("features", "abc")
    monkeypatch.undo()
    cache.remove("features", "abc")
    cache.path("features", "abc").mkdir()
    with pytest.raises(
        CacheError, match=r"cannot be read \(is a directory\); .* choose another folder with --"
    ):
        cache.load("features", "abc")
    with pytest.raises(
        OutputError, match=r"cannot be removed \(is a directory\); choose another folder with --"
    ):
        cache.remove("features", "abc")


def test_an_entry_that_would_run_code_is_refused(cache):
    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(cache.folder / "evil"),))

    torch.save({"key": "abc", "kind": "features", "payload": Evil()}, cache.path("features", "abc"))
    with pytest.raises(CacheError, match="damaged"):
        cache.load("features", "abc")
    assert not (cache.folder / "evil").exists()


@pytest.mark.parametrize(("kind", "key"), [("features", "other"), ("flow", "abc")])
def test_an_entry_made_with_other_settings_is_refused_by_name(cache, kind, key):
    cache.path("features", "abc").rename(cache.path(kind, key))
    with pytest.raises(CacheError, match="made with other settings") as caught:
        cache.load(kind, key)
    assert str(cache.path(kind, key)) in str(caught.value)


def test_a_write_that_is_killed_leaves_nothing_to_believe_and_what_it_leaves_goes(tmp_path):
    class Killer(torch.Tensor):
        def __reduce_ex__(self, protocol):
            os.kill(os.getpid(), signal.SIGKILL)

    payload = [torch.zeros(100_000), torch.zeros(2).as_subclass(Killer)]
    save = Cache(tmp_path).of("a" * 64).save
    run = multiprocessing.get_context("fork").Process(target=save, args=("features", "abc", payload))
    run.start()
    run.join()
    assert run.exitcode == -signal.SIGKILL
    (video,) = tmp_path.iterdir()
    (left,) = video.iterdir()
    assert left.name.endswith(".partial")
    assert Cache(tmp_path).of("a" * 64).load("features", "abc") is None
    Cache.open(tmp_path, fresh=False)
    assert not list(video.iterdir())


def test_a_write_that_fails_leaves_the_older_entry_and_no_other_file(cache):
    with pytest.raises(TypeError, match="a function cannot be saved"):
        cache.save("features", "abc", lambda: None)
    assert cache.load("features", "abc")["size"] == (3, 4)
    assert [path.name for path in cache.folder.iterdir()] == ["features-abc.pt"]


def save_and_load(folder, number):
    """Save and load one entry again and again; returns what failed."""
    failures, rounds = [], 12
    for turn in range(rounds):
        value = number * rounds + turn
        try:
            Cache(folder).save("features", "abc", {"values": torch.full((50_000,), float(value))})
            found = Cache(folder).load("features", "abc")["values"]
            if not (found == found[0]).all():
                failures.append("torn")
        except Exception as error:
            failures.append(str(error))
    return failures


def test_processes_of_one_number_and_threads_save_and_load_one_entry_without_harm(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in containers; processes that are forked inherit it
    context, failures = multiprocessing.get_context("fork"), []
    ends = [context.Pipe(duplex=False) for _ in range(2)]
    processes = [
        context.Process(
            target=lambda end, number: end.send(save_and_load(tmp_path, number)), args=(end, number)
        )
        for number, (_, end) in enumerate(ends)
    ]
    threads = [
        threading.Thread(
            target=lambda number: failures.extend(save_and_load(tmp_path, number)), args=(number,)
        )
        for number in (2, 3)
    ]
    for worker in (*processes, *threads):
        worker.start()
    for thread in threads:
        thread.join()
    for end, _ in ends:
        assert end.poll(60)
        failures += end.recv()
    for process in processes:
        process.join()
    assert failures == []
    assert [path.name for path in tmp_path.iterdir()] == ["features-abc.pt"]


def test_a_folder_that_cannot_be_written_is_said_so(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match=r"file is in the way .*; choose another folder with --cache"):
        Cache.open(tmp_path / "file" / "kept", fresh=False)


def test_a_disk_that_fills_up_is_said_with_the_option_that_helps(cache, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OutputError, match=r"the disk is full; free some space or choose another .*--cache"):
        cache.save("features", "abd", PAYLOAD)


def test_videos_do_not_share_entries(cache):
    first, second = cache.of("a" * 64), cache.of("b" * 64)
    first.save("features", "abc", 1)
    assert second.load("features", "abc") is None
    assert first.load("features", "abc") == 1


def test_a_key_depends_on_every_part_and_not_on_their_order():
    assert make_key(stage="flow", size=(3, 4)) == make_key(size=[3, 4], stage="flow")
    keys = {make_key(stage="flow", size=(3, 4)), make_key(stage="flow", size=(4, 3)), make_key(stage="flow")}
    assert len(keys) == 3


def test_a_dataclass_is_packed_and_unpacked_whole():
    grid = FeatureGrid(torch.ones(1, 2, 3, 4), 8, 3.5, (24, 32))
    found = unpack(FeatureGrid, pack(grid), Path("entry"))
    assert torch.equal(found.values, grid.values)
    assert (found.stride_px, found.offset_px, found.working_size) == (8, 3.5, (24, 32))
    for wrong in ({"values": 1}, [1], None):
        with pytest.raises(
            CacheError, match="entry: does not hold a FeatureGrid; delete it or run with --fresh"
        ):
            unpack(FeatureGrid, wrong, Path("entry"))


def test_the_folder_is_the_users_to_choose(monkeypatch, tmp_path):
    monkeypatch.setenv("T4G_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.setenv("T4G_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "xdg" / "t4g-tracker"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "t4g-tracker"


def test_without_a_home_help_and_cache_work_and_nothing_else_is_one_line(monkeypatch, tmp_path, capsys):
    for name in ("HOME", "T4G_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    with pytest.raises(SystemExit) as caught:
        run_tracker.main(["--help"])
    assert caught.value.code == 0
    given = ["--video", "x.mp4", "--grid", "3"]
    assert parse_track([*given, "--cache", str(tmp_path)]).cache == tmp_path
    capsys.readouterr()
    assert run_tracker.main(given) == 2
    said = "name a folder with --cache, or in the variable T4G_CACHE\n"
    assert capsys.readouterr().err == f"error: there is no home folder for the cache; {said}"
