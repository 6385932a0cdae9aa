"""What a run says of itself is what was: command, commit, video, points, warnings."""

import json
from datetime import datetime

import numpy as np
import pytest
import torch

from t4g_tracker.commands.compare_features import Choice
from t4g_tracker.datatypes import QueryPoints, Video
from t4g_tracker.errors import noted_warnings, warn, warnings_so_far
from t4g_tracker.outputs.run_record import Call, commit_of, points_facts, video_facts
from t4g_tracker.storage.files import write_json

COMMIT = "0123456789abcdef0123456789abcdef01234567"

PACKED = f"# pack-refs with: peeled\n{'f' * 40} refs/heads/x/a/b\n{COMMIT} refs/heads/a/b\n"


def checkout(folder, head, files):
    """A folder with the files of .git that name a commit."""
    for name, text in {"HEAD": head, **files}.items():
        path = folder / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("head", "files"),
    [
        ("ref: refs/heads/main\n", {"refs/heads/main": f"{COMMIT}\n"}),
        ("ref: refs/heads/a/b\n", {"packed-refs": PACKED}),
        (f"{COMMIT}\n", {}),
    ],
    ids=["branch", "packed", "detached"],
)
def test_the_commit_of_a_checkout_is_read_without_git(tmp_path, head, files):
    assert commit_of(checkout(tmp_path, head, files)) == COMMIT


def test_the_commit_of_a_further_worktree_is_found_in_the_first(tmp_path):
    main = checkout(tmp_path / "main", "ref: refs/heads/main", {"refs/heads/side": COMMIT})
    own = main / ".git" / "worktrees" / "side"
    own.mkdir(parents=True)
    (own / "HEAD").write_text("ref: refs/heads/side\n")
    (own / "commondir").write_text("../..\n")
    side = tmp_path / "side"
    side.mkdir()
    (side / ".git").write_text(f"gitdir: {own}\n")
    assert commit_of(side) == COMMIT


@pytest.mark.parametrize("head", [None, "ref: refs/heads/gone\n"])
def test_an_installed_copy_or_a_branch_without_commits_has_none(tmp_path, head):
    folder = tmp_path if head is None else checkout(tmp_path, head, {})
    assert commit_of(folder) is None


def test_a_call_is_recorded_so_that_it_can_be_typed_again_and_with_its_types(tmp_path):
    arguments = {"video": tmp_path / "a b.mp4", "grid": 4, "mask": None, "features": [Choice("svd", "x")]}
    call = Call(["t4g", "track", "--video", "a b.mp4", "--set", "x=[1]"], arguments)
    write_json(tmp_path / "run.json", call.facts())
    facts = json.loads((tmp_path / "run.json").read_text())
    assert facts["command"] == "t4g track --video 'a b.mp4' --set 'x=[1]'"
    assert facts["arguments"] == {
        "video": str(tmp_path / "a b.mp4"),
        "grid": 4,
        "mask": None,
        "features": [{"name": "svd", "model": "x"}],
    }
    assert datetime.fromisoformat(facts["started"]).tzinfo is not None


def test_a_video_is_recorded_with_its_size_times_and_shape(tmp_path):
    frames = np.zeros((4, 36, 64, 3), np.uint8)
    times = np.array([0, 0.1, 0.2, 1.0])
    video = Video(frames, 3.0, "x", "x", times, pixel_aspect=2.0, start_frame=1001)
    facts = video_facts(video, "abc", tmp_path / "x.mp4")
    assert facts == {
        "source": str(tmp_path / "x.mp4"),
        "digest": "abc",
        "frames": 4,
        "width": 64,
        "height": 36,
        "fps": 3.0,
        "duration_s": 1.1,
        "pixel_aspect": 2.0,
        "start_frame": 1001,
    }


def test_points_have_one_digest_and_any_change_another():
    frame, xy = torch.tensor([0, 3]), torch.tensor([[1.0, 2.0], [3.0, 4.5]])
    points = QueryPoints(frame, xy, ("a", "\ud800"))
    others = [
        QueryPoints(frame + 1, xy, points.names),
        QueryPoints(frame, xy + 0.001, points.names),
        QueryPoints(frame, xy, ("a", "b")),
        points.subset(torch.tensor([1, 0])),
        points.subset(torch.tensor([0])),
    ]
    digests = [points_facts(some, "q.json")["digest"] for some in (points, *others)]
    assert len(set(digests)) == len(digests)
    again = QueryPoints(frame.clone(), xy.clone(), points.names)
    assert points_facts(again, "other.json")["digest"] == digests[0]


def test_warnings_are_noted_once_each_and_given_all_the_same(recwarn):
    with noted_warnings() as noted:
        for message in ("x.mp4: doubtful", "x.mp4: doubtful", "q.json: odd"):
            warn(message)
        assert noted == warnings_so_far() == ["x.mp4: doubtful", "q.json: odd"]
    assert warnings_so_far() == []
    assert {str(entry.message) for entry in recwarn} == {"x.mp4: doubtful", "q.json: odd"}
