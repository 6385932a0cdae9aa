"""The bundled clip, its query points and its tracks are those of its scene."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from tiny_scenes import read_at

from t4g_tracker.inputs.queries import read_queries
from t4g_tracker.inputs.video import read_video
from t4g_tracker.outputs.track_files import read_tracks_npz

ASSETS = Path(__file__).parents[2] / "assets"


def test_the_bundled_files_belong_to_each_other():
    video = read_video(ASSETS / "koi.mp4")
    queries = read_queries(ASSETS / "koi.queries.json", video)
    exact, stored, size, fps = read_tracks_npz(ASSETS / "koi.tracks.npz")
    assert (video.frame_count, video.size, video.fps) == (exact.xy.shape[1], size, fps)
    assert queries.names == stored.names
    torch.testing.assert_close(queries.xy, stored.xy)
    at_query = exact.xy[torch.arange(len(queries)), queries.frame]
    torch.testing.assert_close(at_query, queries.xy, atol=0.01, rtol=0)
    assert exact.visibility[torch.arange(len(queries)), queries.frame].all()
    assert sum(file.stat().st_size for file in ASSETS.glob("koi.*")) < 2_000_000
    assert len(json.loads((ASSETS / "koi.queries.json").read_text())["queries"]) == len(queries)


@pytest.fixture(scope="module")
def make():
    """The script that makes the clip; it finds its scene beside itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ASSETS / "koi_scene"))
        yield importlib.import_module("make")
        for name in ("make", "scene"):
            del sys.modules[name]


def test_the_bundled_queries_and_tracks_are_those_of_the_scene(make, tmp_path):
    queries, exact = make.choose_queries(make.koi_pond(torch.Generator().manual_seed(make.SEED)))
    stored, stored_queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    assert queries.names == stored_queries.names
    torch.testing.assert_close(exact.xy, stored.xy, atol=0.01, rtol=0)
    assert torch.equal(exact.visibility, stored.visibility)
    make.write_queries(tmp_path / "queries.json", queries)
    assert (tmp_path / "queries.json").read_text() == (ASSETS / "koi.queries.json").read_text()


def brightness(video, xy):
    """(N, T) mean over 3x3 pixels around the positions (N, T, 2)."""
    steps = torch.arange(-1.0, 2.0)
    around = torch.cartesian_prod(steps, steps)
    grey = torch.from_numpy(video.frames).float().mean(-1)[:, None]
    found = [read_at(grey[t], (xy[:, t, None] + around).reshape(-1, 2)) for t in range(len(grey))]
    return torch.stack(found).reshape(len(grey), len(xy), 9).mean(-1).T


def test_the_bundled_clip_shows_the_same_brightness_along_its_tracks():
    video = read_video(ASSETS / "koi.mp4")
    exact, queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    start = queries.xy[:, None].expand_as(exact.xy)
    reference = brightness(video, start).gather(1, queries.frame[:, None]).expand_as(exact.visibility)

    def agreement(xy):
        pair = [brightness(video, xy)[exact.visibility], reference[exact.visibility]]
        return torch.corrcoef(torch.stack(pair))[0, 1]

    assert agreement(exact.xy) > 0.85  # light, shadows and grain take the rest
    assert agreement(exact.xy + 5) < 0.6
    assert agreement(start) < 0.6
