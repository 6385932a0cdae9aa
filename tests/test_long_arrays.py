"""Long videos: held in files without names, within a limit, with the same values."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from tiny_videos import moving_square, write_video

from t4g_tracker import Config, fit, memory, read_settings
from t4g_tracker.datatypes import FeatureGrid
from t4g_tracker.errors import OutputError, VideoError
from t4g_tracker.inputs.video import read_video
from t4g_tracker.memory import MemoryConfig, check_memory, long_arrays
from t4g_tracker.storage import long_arrays as module
from t4g_tracker.storage.cache import Cache, pack
from t4g_tracker.storage.long_arrays import LongArrays

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="measures memory as Linux does")


@pytest.fixture
def in_files(tmp_path, monkeypatch):
    """Arrays in files, also the small ones of tests."""
    monkeypatch.setattr(module, "SMALL", 1)
    monkeypatch.setattr("t4g_tracker.storage.torch_files.SMALL", 1)
    arrays = LongArrays(tmp_path)
    arrays.to_files()
    return arrays


def test_arrays_are_in_memory_until_files_are_asked_for(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)
    monkeypatch.setattr(LongArrays, "_file", lambda *_: pytest.fail("makes a file"))
    arrays, frame = LongArrays(tmp_path), np.zeros((2, 3, 3), np.uint8)
    assert arrays.empty(2, 3, dtype=torch.float16).shape == (2, 3)
    assert arrays.held(frame) is frame
    assert arrays.stacked([frame, frame]).shape == (2, 2, 3, 3)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float32, torch.int64])
def test_a_tensor_in_a_file_keeps_what_is_written_and_leaves_no_name(in_files, tmp_path, dtype):
    tensor = in_files.empty(5, 7, 3, dtype=dtype)
    values = torch.arange(105).view(5, 7, 3).to(dtype)
    tensor[:] = values
    assert torch.equal(tensor, values)
    assert (tensor.dtype, tensor.shape) == (dtype, (5, 7, 3))
    assert list(tmp_path.iterdir()) == []


@LINUX
def test_pages_given_back_keep_their_values(in_files, monkeypatch):
    monkeypatch.setattr(in_files, "_watched", True)  # no thread does it before
    tensor = in_files.empty(2**22, dtype=torch.float32)
    tensor.copy_(torch.arange(2**22))
    in_files.limit = 0
    monkeypatch.setattr(module, "_LEAST", 0)
    before = psutil.Process().memory_info().rss
    in_files.give_back()
    assert psutil.Process().memory_info().rss < before - 10_000_000  # of 16.8 million bytes
    assert torch.equal(tensor, torch.arange(2**22, dtype=torch.float32))


def test_frames_of_several_sizes_are_held_apart(in_files):
    frames = [np.full((4 + index % 2, 6, 3), index, np.uint8) for index in range(70)]
    held = [in_files.held(frame) for frame in frames]
    assert all((one == other).all() for one, other in zip(frames, held, strict=True))


def test_a_full_disk_is_told_in_one_line(in_files, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_reserve", full)
    with pytest.raises(OutputError, match=r"cannot hold a temporary file of 0\.0 GB \(No space left"):
        in_files.empty(4, dtype=torch.uint8)


def test_a_cached_value_read_from_its_file_is_the_same_and_is_still_checked(in_files, tmp_path):
    cache, values = Cache(tmp_path / "cache"), torch.randn(6, 4, 8, 8).half()
    grid = FeatureGrid(values.permute(0, 2, 3, 1), 8, 3.5, (64, 64))  # not contiguous
    cache.save("features", "key", pack(grid))
    entry = cache.load_timed("features", "key", in_files)
    assert torch.equal(entry[0]["values"], grid.values)
    path = cache.path("features", "key")
    data = bytearray(path.read_bytes())
    at = data.index(values[3].numpy().tobytes()[:32])
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(Exception, match="is damaged"):
        cache.load_timed("features", "key", in_files)


def test_a_video_beyond_the_limit_goes_into_files_and_others_do_not(tmp_path):
    need = 100 * 1000
    for limit, expected in ((1e9 + need, True), (1e10, False)):
        arrays = LongArrays(tmp_path, int(limit))
        check_memory("x.mp4", 100, (10, 10), 1000, arrays=arrays)
        assert arrays.in_files == expected


def test_what_is_free_counts_where_no_limit_is_given(tmp_path, monkeypatch):
    for free, expected in ((90_000, True), (110_000, True), (4e9, False)):
        monkeypatch.setattr(memory, "free_memory", lambda free=free: int(free))
        arrays = long_arrays(MemoryConfig(), tmp_path)
        check_memory("x.mp4", 100, (10, 10), 1000, arrays=arrays)
        assert arrays.in_files == expected


def test_a_disk_without_room_for_the_files_is_refused_before_any_work(tmp_path):
    arrays = LongArrays(tmp_path, 1)
    with pytest.raises(VideoError, match=r"^x.mp4: .* are free for files instead in .*; free some space"):
        check_memory("x.mp4", 10**6, (10, 10), 10**12, arrays=arrays)


@pytest.mark.parametrize("name", ["a.mp4", "a.h264", "folder"])
def test_a_video_read_into_files_has_the_same_frames(in_files, tmp_path, name):
    """A raw stream has no length, so its first frames are in memory when the limit is met."""
    frames = moving_square(130)
    path = tmp_path / name
    if name == "folder":
        from PIL import Image

        path.mkdir()
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(path / f"{index}.png")
    else:
        write_video(path, frames)
    fresh = LongArrays(tmp_path, 1)
    found = read_video(path, arrays=fresh)
    assert fresh.in_files
    assert (found.frames == read_video(path).frames).all()


def test_a_run_in_files_gives_the_same_tracks_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)
    monkeypatch.setattr("t4g_tracker.storage.torch_files.SMALL", 1)
    path = write_video(tmp_path / "a.mp4", moving_square(12, 64, 96))
    small = [
        "working_size.height=64",
        "working_size.width=128",
        "features.extractor=patch",
        "adaptation.steps=4",
    ]
    made = []
    file = LongArrays._file
    monkeypatch.setattr(LongArrays, "_file", lambda arrays, size: made.append(size) or file(arrays, size))
    points = [[0, 20, 20], [5, 40.5, 30]]

    def tracks(cache, *settings):
        fitted = fit(path, read_settings(Config(), None, [*small, *settings]), device="cpu", cache=cache)
        return fitted.track(points)

    plain = tracks(tmp_path / "plain")
    assert not made
    in_files = tracks(tmp_path / "files", "memory.max_gb=0.001")
    kinds = len(made)
    again = tracks(tmp_path / "files", "memory.max_gb=0.001")  # from the cache's files
    assert kinds >= 7  # original, working and flow's frames, features, prepared, both flows, adapted
    for other in (in_files, again, tracks(tmp_path / "files")):
        assert torch.equal(other.xy, plain.xy)
        assert torch.equal(other.visibility, plain.visibility)
        assert torch.equal(other.confidence, plain.confidence)
    assert [entry for entry in (tmp_path / "files").iterdir() if entry.is_file()] == []


@LINUX
def test_memory_stays_below_the_limit_while_all_of_a_large_array_is_read_and_written(tmp_path):
    """In a process of its own, since memory is measured; 1.6 GB of arrays under a limit of 0.9 GB."""
    program = f"""
import time, torch
from pathlib import Path
from t4g_tracker.storage.long_arrays import LongArrays
arrays = LongArrays(Path({str(tmp_path)!r}), 900_000_000)
arrays.to_files()
held = [arrays.empty(400, 2**20, dtype=torch.uint8) for _ in range(4)]
for each in held:
    for row in range(400):
        each[row] = row % 251
        if row % 20 == 0:
            time.sleep(0.02)
for each in held:
    for row in range(0, 400, 50):
        assert int(each[row].min()) == int(each[row].max()) == row % 251
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line for line in lines if line.startswith("VmHWM")).split()[1])
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) * 1024 < 1_000_000_000
