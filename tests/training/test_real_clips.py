"""Real videos as training clips: their tracks follow the flow, and are made once."""

from __future__ import annotations

import pytest
import torch
from tiny_runs import sliding

from t4g_tracker.errors import DatasetError, TrackerError
from t4g_tracker.flow.estimator import FlowEstimator
from t4g_tracker.flow.settings import FlowConfig
from t4g_tracker.storage.files import atomic_write
from t4g_tracker.training.track4gen import real_clips
from t4g_tracker.training.track4gen.real_clips import RealClips, flow_clip
from t4g_tracker.visualize.encoding import write_video


def test_tracks_of_a_real_clip_follow_its_flow():
    clip = flow_clip(sliding(), (160, 240), 50, FlowEstimator(FlowConfig(), torch.device("cpu")))
    moves = clip.xy[:, 1:] - clip.xy[:, :-1]
    both = clip.visibility[:, 1:] & clip.visibility[:, :-1]
    assert both.float().mean() > 0.5
    median = moves[both].median(dim=0).values
    torch.testing.assert_close(median, torch.tensor([-3.0, 0.0]), atol=0.1, rtol=0)


def test_an_error_that_is_not_the_videos_own_leaves_no_stretch_out(tmp_path, monkeypatch):
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "slide.mp4", sliding(9).frames, 24.0, 20)

    def fail(*_, **__):
        raise TrackerError("cannot be written, the disk is full")

    monkeypatch.setattr(real_clips, "make_trajectories", fail)
    with pytest.raises(TrackerError, match="disk is full"):
        RealClips(tmp_path / "videos", 8, (64, 96), 16, tmp_path / "clips")
    assert not list((tmp_path / "clips").glob("*.done"))


def test_a_folder_of_videos_becomes_clips_once(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    with atomic_write(videos / "slide.mp4") as passing:
        write_video(passing, sliding(9).frames, 24.0, 20)
    clips = RealClips(videos, 4, (96, 144), 20, tmp_path / "cache")
    assert len(clips) == 2  # nine frames give two stretches of four
    assert clips.clip(0).frames.shape == (4, 3, 96, 144)
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npz")}
    again = RealClips(videos, 4, (96, 144), 20, tmp_path / "cache")
    before = again.clip(1)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").glob("*.npz")} == written
    assert torch.equal(before.xy, clips.clip(1).xy)
    whole = clips.files[1].read_bytes()
    clips.files[1].write_bytes(whole[:-200])
    with pytest.raises(DatasetError, match="is damaged; run the same command again"):
        clips.clip(1)
    once_more = RealClips(videos, 4, (96, 144), 20, tmp_path / "cache")
    assert once_more.files == clips.files
    assert torch.equal(once_more.clip(1).xy, before.xy)


def test_a_video_that_cannot_be_read_is_left_out_and_a_new_one_of_its_name_is_taken(tmp_path, caplog):
    videos, cache = tmp_path / "videos", tmp_path / "cache"
    videos.mkdir()
    write_video(videos / "slide.mp4", sliding(5).frames, 24.0, 20)
    (videos / "torn.mp4").write_bytes(b"not a video")
    assert len(RealClips(videos, 4, (96, 144), 20, cache)) == 1
    assert "left out" in caplog.text
    assert "torn.mp4" in caplog.text
    write_video(videos / "slide.mp4", sliding(9).frames, 24.0, 20)
    assert len(RealClips(videos, 4, (96, 144), 20, cache)) == 2


def test_a_folder_without_videos_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="holds no videos"):
        RealClips(tmp_path, 4, (96, 144), 20, tmp_path / "cache")
