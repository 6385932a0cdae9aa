"""Every published layout gives the clips that were put in, and says what is wrong with a damaged one."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_datasets import MOTIONS, POINTS, SIZE, badja_tree, clips, davis_tree, tapvid_dict, write_pickle

from t4g_tracker.datasets.annotated import AnnotatedClip, View
from t4g_tracker.datasets.badja import ANNOTATED_JOINTS, BadjaClips
from t4g_tracker.datasets.choice import DatasetChoice
from t4g_tracker.datasets.davis_folder import DavisFolder
from t4g_tracker.datasets.frames_and_tracks import FolderClips
from t4g_tracker.datasets.protocols import JointProtocol, PointProtocol
from t4g_tracker.datasets.tapvid import PickledClips
from t4g_tracker.datatypes import Tracks, Video
from t4g_tracker.errors import DatasetError


def check(loaded: AnnotatedClip, clip, ask) -> None:
    """The clip is the one that was written."""
    xy, seen = clip.follow(ask(*POINTS))
    assert np.array_equal(loaded.video.frames, clip.video.frames)
    torch.testing.assert_close(loaded.truth.xy, xy, atol=1e-3, rtol=0)
    assert torch.equal(loaded.truth.visibility, seen)


@pytest.mark.parametrize("encode", [False, True], ids=["arrays", "images"])
@pytest.mark.parametrize("kind", [dict, list])
def test_a_tapvid_pickle_is_read_as_it_was_written(slide, ask, tmp_path, encode, kind):
    made = tapvid_dict(slide, ask, encode)
    path = write_pickle(tmp_path / "set.pkl", made if kind is dict else list(made.values()))
    opened = PickledClips(path)
    assert opened.names() == (list(MOTIONS) if kind is dict else ["set-0000", "set-0001"])
    for name, (clip, _) in zip(opened.names(), clips(slide, ask).values(), strict=True):
        check(opened.load(name), clip, ask)


def test_frames_may_be_jpegs_also_grey_ones(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    encoded = []
    for frame in made["left"]["video"]:
        with io.BytesIO() as file:
            Image.fromarray(frame).convert("L").save(file, "JPEG", quality=95)
            encoded.append(file.getvalue())
    made["left"]["video"] = encoded
    frames = PickledClips(write_pickle(tmp_path / "set.pkl", made)).load("left").video.frames
    assert frames.shape == (7, *SIZE, 3)
    grey = np.asarray(Image.fromarray(clips(slide, ask)["left"][0].video.frames[0]).convert("L"), np.int16)
    assert np.abs(frames[0, ..., 0] - grey).mean() < 3


def test_frames_that_would_need_an_outside_program_are_refused(slide, ask, tmp_path):
    made = tapvid_dict(slide, ask)
    made["left"]["video"] = [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"] * 7
    with pytest.raises(DatasetError, match="a frame cannot be decoded"):
        PickledClips(write_pickle(tmp_path / "set.pkl", made)).load("left")


def test_names_that_would_become_the_same_file_are_refused(tmp_path):
    path = write_pickle(tmp_path / "set.pkl", {"a/b": {}, "a_b": {}})
    with pytest.raises(DatasetError, match="two clips are called a_b"):
        PickledClips(path)


def test_a_folder_of_pickles_is_one_data_set(slide, ask, tmp_path):
    made = list(tapvid_dict(slide, ask, encode=True).values())
    for part in range(2):
        write_pickle(tmp_path / f"000{part}_of_0002.pkl", [made[part]])
    (tmp_path / "._0000_of_0002.pkl").write_bytes(b"what a Mac leaves beside a file")
    opened = PickledClips(tmp_path)
    assert opened.names() == ["0000_of_0002-0000", "0001_of_0002-0000"]
    check(opened.load("0001_of_0002-0000"), clips(slide, ask)["right"][0], ask)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"points": np.zeros((3, 7))}, "do not fit together"),
        ({"points": np.zeros((3, 5, 2)), "occluded": np.zeros((3, 5))}, "has 5 frames, the clip has 7"),
        ({"video": np.zeros((7, 64, 96), np.uint8)}, "not at least two frames"),
        ({"video": [b"no image"] * 7}, "a frame cannot be decoded"),
        ({"video": 5}, "its video is int, not at least two frames"),
        ({"points": [[1], [1, 2]]}, "its points are not an array"),
    ],
)
def test_a_damaged_clip_is_refused_by_name(slide, ask, tmp_path, change, said):
    made = tapvid_dict(slide, ask)
    made["left"] |= change
    opened = PickledClips(write_pickle(tmp_path / "set.pkl", made))
    with pytest.raises(DatasetError, match=rf"set\.pkl\[left\].*{said}"):
        opened.load("left")


@pytest.mark.parametrize(
    ("value", "said"),
    [({"a": {"video": 1}}, "clip a has no points"), (7, "holds a int"), ({"a": [1]}, "clip a has no video")],
)
def test_a_pickle_that_is_no_data_set_is_told_before_any_clip_is_read(tmp_path, value, said):
    with pytest.raises(DatasetError, match=said):
        PickledClips(write_pickle(tmp_path / "set.pkl", value))


def test_a_davis_folder_lists_the_sequences_of_its_split(slide, ask, tmp_path):
    folder = DavisFolder(davis_tree(tmp_path, slide, ask))
    assert folder.sequences("val", None) == list(MOTIONS)
    assert folder.sequences("val", ["right"]) == ["right"]
    (tmp_path / "mine.txt").write_text("right\nleft\n")
    assert folder.sequences(str(tmp_path / "mine.txt"), None) == ["right", "left"]
    assert folder.first_mask("left").name == "00000.png"
    with pytest.raises(DatasetError, match=r"train\.txt: no such file"):
        folder.sequences("train", None)
    with pytest.raises(DatasetError, match="has no sequence up; it has left, right"):
        folder.sequences("val", ["up"])


def test_tracks_of_a_davis_sequence_come_from_its_folder_or_a_pickle(slide, ask, tmp_path):
    root = davis_tree(tmp_path / "davis", slide, ask)
    pickled = write_pickle(tmp_path / "set.pkl", tapvid_dict(slide, ask))
    for folder in (DavisFolder(root), DavisFolder(root, pickled)):
        annotated = folder.annotated("right")
        assert annotated is not None
        check(annotated, clips(slide, ask)["right"][0], ask)
    bare = DavisFolder(davis_tree(tmp_path / "bare", slide, ask, tracks=False))
    assert not bare.has_annotations()
    with pytest.raises(DatasetError, match=r"right\.npz"):
        bare.check_annotations(["right"])


def test_badja_joints_are_turned_from_rows_and_columns_and_placed_in_their_frames(slide, tmp_path):
    clip = BadjaClips(badja_tree(tmp_path, slide)).load("beast")
    assert clip.truth.xy.shape == (len(ANNOTATED_JOINTS), 7, 2)
    entry = json.loads((tmp_path / "joint_annotations" / "beast.json").read_text())[1]  # of frame 3
    y, x = entry["joints"][ANNOTATED_JOINTS[4]]
    assert clip.truth.xy[4, 3].tolist() == pytest.approx([x, y])
    assert clip.truth.visibility.any(0).tolist() == [frame % 3 == 0 for frame in range(7)]
    hidden_at_first = [False, False, False, True, False, False, True]
    assert clip.truth.visibility[0].tolist() == hidden_at_first
    assert clip.reach_px is not None
    assert clip.reach_px[3] == pytest.approx(0.2 * 1000**0.5)
    assert clip.reach_px.isnan().tolist() == [frame % 3 != 0 for frame in range(7)]


def test_badja_reads_no_frame_outside_the_annotated_ones(slide, tmp_path):
    root = badja_tree(tmp_path, slide)
    whole = BadjaClips(root).load("beast")
    file, folder = root / "joint_annotations/beast.json", root / "DAVIS/JPEGImages/Full-Resolution/beast"
    file.write_text(json.dumps(json.loads(file.read_text())[1:]))  # frames 3 and 6
    for outside in ("00000.png", "00007.png"):
        (folder / outside).write_bytes(b"damaged")
    part = BadjaClips(root).load("beast")
    assert np.array_equal(part.video.frames, whole.video.frames[3:])
    assert torch.equal(part.truth.xy, whole.truth.xy[:, 3:])
    assert (part.video.name, part.video.start_frame) == ("beast", 0)


def test_badja_scores_agree_with_a_case_worked_by_hand():
    """Two joints, three annotated frames; reaches 10, 5 and 5 px.

    Joint 0 is queried in frame 0 and is off by 4 px, then by 7: one within reach of two, none within 3 px.
    Joint 1 is first visible in frame 1, and off by 2 px in frame 2: one of one, within both.
    """
    seen = torch.tensor([[True, True, True], [False, True, True]])
    truth = Tracks.known(torch.zeros(2, 3, 2), seen)
    clip = AnnotatedClip(_video(3), truth, (256, 256), torch.tensor([10.0, 5.0, 5.0]))
    queries, which = JointProtocol().queries(clip)
    assert queries.frame.tolist() == [0, 1]
    xy = torch.tensor([[[0.0, 0], [4, 0], [0, 7]], [[90, 90], [0, 0], [2, 0]]])
    tracks = Tracks(xy, seen, torch.ones(2, 3))
    found = JointProtocol().score(clip, queries, which, tracks)
    assert found == pytest.approx({"segment": 100 * 2 / 3, "3px": 100 / 3})
    assert JointProtocol().error_px(clip, queries, which, tracks).tolist() == pytest.approx([5.5, 2.0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_path": "DAVIS/JPEGImages/Full-Resolution/beast/99.png"}, "which is not below"),
        ({"joints": [[1, 2]]}, "do not fit each other"),
        ({"joints": [[1, 2]], "visibility": [True]}, "item 1: has 1 joints, the first has 37"),
        ({"joints": [[1], [1, 2]]}, "its joints are not an array"),
        ({"joints": [["1", "2"]] * 37}, "its joints must be plain numbers, got text"),
        ({"joints": [[float("nan"), 2]] * 37}, "a visible joint has no finite position"),
        ({"joints": [[10**400, 2]] * 37}, "its joints must be plain numbers, got objects"),
        (
            {"joints": [[640, 900]] * 37},
            r"visible at x = 900, y = 640 in frame 3, far outside frames of 96x64",
        ),
        ({"visibility": None}, "its visibility must be plain numbers, got objects"),
        ({"visibility": ["False"] * 37}, "its visibility must be plain numbers, got text"),
        ({"visibility": [0.5] * 37}, "its visibility must be true or false, or 1 and 0; got 0.5"),
        ({"image_path": 5}, "its image_path is not a path"),
        ({"segmentation_path": "a\0b"}, "its segmentation_path is not a path"),
        ({"image_path": "DAVIS/JPEGImages/Full-Resolution/beast/00000.png"}, "two frames, each once"),
    ],
)
def test_damaged_badja_annotations_are_refused_by_name(slide, tmp_path, change, said):
    file = badja_tree(tmp_path, slide) / "joint_annotations" / "beast.json"
    entries = json.loads(file.read_text())
    entries[1] |= change
    file.write_text(json.dumps(entries))
    with pytest.raises(DatasetError, match=said) as caught:
        BadjaClips(tmp_path).load("beast")
    assert str(file) in str(caught.value)


def test_a_view_cuts_and_resizes_pictures_and_points_alike(slide, ask, tmp_path):
    stored = FolderClips(davis_tree(tmp_path, slide, ask)).load("left")
    seen = View("256", 4).of(stored)
    assert seen.video.frames.shape == (4, 256, 256, 3)
    assert seen.truth.xy.shape == (3, 4, 2)
    same = (seen.truth.xy + 0.5) / 256 * torch.tensor(
        [SIZE[1], SIZE[0]]
    ) - 0.5  # the same fractions of the frame
    torch.testing.assert_close(same, stored.truth.xy[:, :4], atol=1e-4, rtol=0)
    assert View("480p").of(stored).video.size == SIZE  # never enlarged


def test_480p_is_the_shorter_side():
    assert View("480p").size((1080, 1920)) == (480, 853)
    assert View("480p").size((1920, 1080)) == (853, 480)


def test_a_view_without_a_visible_point_is_refused(slide, ask, tmp_path):
    stored = FolderClips(davis_tree(tmp_path, slide, ask)).load("left")
    seen = stored.truth.visibility & (torch.arange(7) > 4)
    late = replace(stored, truth=replace(stored.truth, visibility=seen))
    with pytest.raises(DatasetError, match="no annotated point is visible in its first 4 frames"):
        View("stored", 4).of(late)


def test_the_same_data_is_described_by_its_protocol(tmp_path):
    choice = DatasetChoice("tapvid-davis", tmp_path, "first", View("256", 24))
    assert choice.describe() == (
        "tapvid-davis, TAP-Vid, first queries, measured at 256x256, 256x256, first 24 frames"
    )
    assert isinstance(choice.protocol, PointProtocol)
    assert isinstance(DatasetChoice("badja", tmp_path).protocol, JointProtocol)


def test_errors_of_tracks_are_means_over_the_frames_that_count():
    seen = torch.tensor([[True, True, False, True]])
    clip = AnnotatedClip(_video(4), Tracks.known(torch.zeros(1, 4, 2), seen), (256, 256))
    xy = torch.tensor([[[9.0, 0], [1, 0], [50, 0], [0, 3]]])
    tracks, which = Tracks(xy, seen, torch.ones(1, 4)), torch.tensor([0])
    protocol = PointProtocol("first")
    queries, _ = protocol.queries(clip)
    assert protocol.error_px(clip, queries, which, tracks).tolist() == pytest.approx([2.0])


def test_errors_do_not_ask_where_a_hidden_point_is():
    seen = torch.tensor([[True, True, False, True]])
    xy = torch.zeros(1, 4, 2)
    xy[0, 2] = float("nan")
    clip = AnnotatedClip(_video(4), Tracks.known(xy, seen), (256, 256))
    queries, which = PointProtocol().queries(clip)
    tracks = Tracks(torch.zeros(len(queries), 4, 2), seen, torch.ones(1, 4))
    assert PointProtocol().error_px(clip, queries, which, tracks).tolist() == [0.0]


def test_joints_are_measured_at_the_size_of_their_annotations(slide, tmp_path):
    stored = BadjaClips(badja_tree(tmp_path, slide)).load("beast")
    scores = []
    for view in (View("stored"), View("256")):
        clip = view.of(stored)
        queries, which = JointProtocol().queries(clip)
        apart = torch.tensor([2.9, 0.0]) if view.resolution == "stored" else torch.tensor([2.9 * 256 / 96, 0])
        truth = clip.truth.subset(which)
        tracks = replace(truth, xy=truth.xy + apart)
        scores.append(JointProtocol().score(clip, queries, which, tracks))
        error = JointProtocol().error_px(clip, queries, which, tracks)
        assert error.tolist() == pytest.approx([2.9] * len(queries), abs=1e-3)
    assert scores[0] == scores[1] == {"segment": 100.0, "3px": 100.0}


def _video(frames):
    return Video(np.zeros((frames, 256, 256, 3), np.uint8), 24.0, "x", "x")
