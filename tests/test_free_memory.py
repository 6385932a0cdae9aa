"""A video that does not fit into memory is refused before it is read, and memory is never called damage."""

import re
import warnings
from fractions import Fraction

import av
import numpy as np
import psutil
import pytest
from PIL import Image
from tiny_videos import copy_packets, message_of, moving_square, write_video

from t4g_tracker import memory
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import TrackerWarning, VideoError
from t4g_tracker.features.settings import FeaturesConfig, PatchConfig
from t4g_tracker.inputs.video import read_video
from t4g_tracker.memory import check_memory, free_memory, left_by_groups
from t4g_tracker.pipeline import Config, frame_bytes, open_clip


@pytest.fixture
def free(monkeypatch):
    """Sets how many bytes are free."""

    def of(count):
        monkeypatch.setattr(memory, "free_memory", lambda: count)

    return of


def sources(folder, frames):
    """The same frames as a file, a folder and a TIFF."""
    file = write_video(folder / "a.mp4", frames)
    (folder / "frames").mkdir()
    for index, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / "frames" / f"{index}.png")
    first, *others = (Image.fromarray(frame) for frame in frames)
    first.save(folder / "a.tif", save_all=True, append_images=others)
    return file, folder / "frames", folder / "a.tif"


def test_a_video_that_is_too_big_is_refused_and_its_first_frames_are_not(tmp_path, free):
    frames = moving_square(12)
    need = frames.nbytes
    for source in sources(tmp_path, frames):
        free(need - 1)
        message = message_of(source)
        assert "12 frames of 48x32 need about" in message
        assert "--first-frames 9 or --frames A-B" in message  # with a fifth to spare
        free(need // 2)
        assert read_video(source, 4).frame_count == 4
        assert read_video(source, frames=(8, 11)).frame_count == 4


def test_a_video_that_nearly_fills_the_memory_is_read_with_a_warning(tmp_path, free):
    frames = moving_square(12)
    for source in sources(tmp_path, frames):
        free(int(frames.nbytes * 1.1))
        with pytest.warns(TrackerWarning, match=rf"^{source}: 12 frames .* if it does not fit, track fewer"):
            assert read_video(source).frame_count == 12
        free(frames.nbytes * 2)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            read_video(source)


def test_nothing_is_decoded_of_a_video_that_is_too_big(tmp_path, free, monkeypatch):
    path = write_video(tmp_path / "a.mp4", moving_square(12))
    monkeypatch.setattr("t4g_tracker.inputs.video_files._decode", lambda *_: pytest.fail("decodes"))
    free(1000)
    with pytest.raises(VideoError, match="need about"):
        read_video(path)


def test_a_file_without_a_length_is_refused_while_it_is_read(tmp_path, free):
    path = write_video(tmp_path / "a.h264", moving_square(130))
    free(moving_square(20).nbytes)
    assert "128 frames of 48x32 need about" in message_of(path)


@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.flv"])
def test_a_variable_rate_lets_no_sound_video_be_refused(tmp_path, free, name):
    """Such files state the clock of their times, 1000 or 2000 a second, as their rate."""
    frames = moving_square(40)
    times = np.cumsum(np.random.default_rng(0).integers(10, 60, 40)).tolist()
    source = write_video(tmp_path / "a.mp4", frames, times=times, tick=Fraction(1, 1000))
    path = copy_packets(source, tmp_path / name)
    free(int(frames.nbytes * 1.1))
    with pytest.warns(TrackerWarning, match=r"40 frames of 48x32 need about .*; if it does not fit, track"):
        assert read_video(path, frame_bytes=lambda size: 6 * size[0] * size[1]).frame_count == 40
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 | 1])
    free(frames.nbytes * 2)
    message = message_of(path)
    assert "only the first " in message or re.search(r"only \d+ of \d\d frames", message)


def test_a_run_takes_more_than_its_frames(tmp_path, free):
    path = write_video(tmp_path / "a.mp4", moving_square(12))
    free(moving_square(12).nbytes * 2)
    read_video(path)
    with pytest.raises(VideoError, match="12 frames of 48x32 need about"):
        read_video(path, frame_bytes=frame_bytes(Config()))
    video = Video(moving_square(12), 24.0, "a", "an array")
    assert open_clip(video, Config()).arrays.in_files  # instead of refusing it


@pytest.mark.parametrize(
    ("size", "channels", "measured"),
    [
        ((240, 426), 64, 9.8e6),
        ((240, 426), 256, 19.0e6),
        ((480, 854), 64, 17.3e6),
        ((1080, 1920), 64, 23.3e6),
    ],
)
def test_the_estimate_is_near_what_was_measured(size, channels, measured):
    patch = PatchConfig(channels=channels)
    config = Config(features=FeaturesConfig(extractor="patch", patch=patch))
    assert frame_bytes(config)(size) == pytest.approx(measured, rel=0.12)


class OutOfMemory:
    """Stands in for a decoder, or for numpy, that gets no memory."""

    def __init__(self, error):
        self.error = error

    def __call__(self, *_, **__):
        raise self.error


@pytest.mark.parametrize(
    "error", [av.error.MemoryError(12, "Cannot allocate memory"), MemoryError("Unable to allocate 1.30 GiB")]
)
def test_running_out_of_memory_is_no_damage(tmp_path, monkeypatch, error):
    file, folder, _ = sources(tmp_path, moving_square(3))
    monkeypatch.setattr("t4g_tracker.inputs.video_files.displayed", OutOfMemory(error))
    monkeypatch.setattr("t4g_tracker.inputs.image_sequences.read_picture", OutOfMemory(error))
    for source in (file, folder):
        message = message_of(source)
        assert "memory ran out while it was read; track fewer with --first-frames" in message
        assert "damaged" not in message


def test_free_memory_is_at_most_that_of_the_machine():
    assert 0 < free_memory() <= psutil.virtual_memory().total + psutil.swap_memory().total


def write_group(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


def test_the_limits_of_control_groups_count_at_every_level(tmp_path):
    process, groups = tmp_path / "cgroup", tmp_path / "fs"
    process.write_text("0::/outer/inner\n")
    stat = "anon 500\nactive_file 20\ninactive_file 30"
    write_group(groups / "outer", memory__max=1000, memory__current=600, memory__stat=stat)
    write_group(groups / "outer/inner", memory__max="max", memory__current=500, memory__stat=stat)
    assert list(left_by_groups(process, groups)) == [450]  # 400, and 50 that the system can drop
    process.write_text("12:cpu,memory:/gone/in/this/container\n")
    stat = "total_active_file 5\ntotal_inactive_file 6\nactive_file 1"
    write_group(groups / "memory", memory__limit_in_bytes=300, memory__usage_in_bytes=100, memory__stat=stat)
    assert list(left_by_groups(process, groups)) == [211]
    assert list(left_by_groups(tmp_path / "no such file", groups)) == []


def test_a_limit_of_the_process_counts():
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    taken = psutil.Process().memory_info().data
    try:
        resource.setrlimit(resource.RLIMIT_DATA, (taken + 300_000_000, before[1]))
        assert free_memory() < 301_000_000
        with pytest.raises(VideoError, match=r"need about 1\.0 GB of memory, but 0\.3 GB are free"):
            check_memory("x.mp4", 10, (100, 100), 100_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)
