"""The cache: what is kept is believed only when it is whole and belongs to what is asked."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from t4g_tracker.cache import Cache, default_cache_folder, make_key, pack, unpack
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import CacheError, OutputError

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


def test_a_fresh_run_finds_nothing_but_what_it_wrote_itself(cache):
    past = time.time() - 60
    os.utime(cache.path("features", "abc"), (past, past))
    fresh = Cache.open(cache.folder, fresh=True)
    assert fresh.load("features", "abc") is None
    time.sleep(0.05)  # file times are coarser than clocks
    fresh.save("features", "abc", "new")
    assert fresh.load("features", "abc") == cache.load("features", "abc") == "new"


def test_a_run_that_is_not_fresh_finds_what_earlier_ones_left(cache):
    assert Cache.open(cache.folder, fresh=False).load("features", "abc") is not None


@pytest.mark.parametrize("keep", [0, 1, 100, 0.5, 0.99])
def test_an_entry_that_is_cut_short_is_refused_by_name(cache, keep):
    path = cache.path("features", "abc")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else keep])
    with pytest.raises(CacheError, match="cut short or damaged; delete it or run with --fresh") as caught:
        cache.load("features", "abc")
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


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


def test_a_write_that_is_killed_leaves_nothing_to_believe(tmp_path):
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        import torch
        from t4g_tracker.cache import Cache

        class Killer(torch.Tensor):
            def __reduce_ex__(self, protocol):
                os.kill(os.getpid(), signal.SIGKILL)

        payload = [torch.zeros(100_000), torch.zeros(2).as_subclass(Killer)]
        Cache(Path(sys.argv[1])).save("features", "abc", payload)
    """)
    done = subprocess.run([sys.executable, "-c", program, tmp_path], cwd=Path(__file__).parents[1])
    assert done.returncode == -signal.SIGKILL
    assert Cache(tmp_path).load("features", "abc") is None
    assert not list(tmp_path.glob("*-abc.pt"))


def test_a_write_that_fails_leaves_the_older_entry_and_no_other_file(cache):
    with pytest.raises(Exception, match="pickle"):
        cache.save("features", "abc", lambda: None)
    assert cache.load("features", "abc")["size"] == (3, 4)
    assert [path.name for path in cache.folder.iterdir()] == ["features-abc.pt"]


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
    assert (
        dataclasses.replace(cache, not_before=time.time() + 60).of("a" * 64).load("features", "abc") is None
    )


def test_a_key_depends_on_every_part_and_not_on_their_order():
    assert make_key(stage="flow", size=(3, 4)) == make_key(size=[3, 4], stage="flow")
    keys = {make_key(stage="flow", size=(3, 4)), make_key(stage="flow", size=(4, 3)), make_key(stage="flow")}
    assert len(keys) == 3


def test_a_dataclass_is_packed_and_unpacked_whole():
    grid = FeatureGrid(torch.ones(1, 2, 3, 4), 8, 3.5, (24, 32))
    found = unpack(FeatureGrid, pack(grid))
    assert torch.equal(found.values, grid.values)
    assert (found.stride_px, found.offset_px, found.working_size) == (8, 3.5, (24, 32))
    with pytest.raises(CacheError, match="FeatureGrid"):
        unpack(FeatureGrid, {"values": 1})


def test_the_folder_is_the_users_to_choose(monkeypatch, tmp_path):
    monkeypatch.setenv("T4G_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("T4G_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert default_cache_folder() == tmp_path / "xdg" / "t4g-tracker"
