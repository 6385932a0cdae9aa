"""Photographs come with a free licence, and scikit-image."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_scenes import CPU

from t4g_tracker.errors import ConfigError, TrackerError, TrackerWarning, VideoError
from t4g_tracker.synthetic import photographs
from t4g_tracker.synthetic.clips import generate_clip, train_generator
from t4g_tracker.synthetic.photographs import Album
from t4g_tracker.synthetic.surfaces import PATTERNS_ONLY
from t4g_tracker.training.track4gen.dataset import SyntheticClips


def test_every_photograph_is_free_and_in_colour():
    assert len(photographs.NAMES) == 12
    for name in photographs.NAMES:
        licence = photographs.LICENCES[name]
        assert licence.startswith(("CC0", "public domain", "no known copyright")), name
        assert photographs.photograph(name, CPU).shape[0] == 3


def test_without_scikit_image_the_error_names_the_remedy_and_patterns_still_work(monkeypatch):
    photographs.photograph.cache_clear()
    monkeypatch.setitem(sys.modules, "skimage", None)
    with pytest.raises(TrackerError, match=r"pip install -e '\.\[train\]'"):
        photographs.photo_texture(torch.Generator().manual_seed(0), (8, 8))
    clip = generate_clip(torch.Generator().manual_seed(0), 2, (32, 32), 4, PATTERNS_ONLY)
    assert clip.frames.shape == (2, 3, 32, 32)


def save(path, size, colour):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def test_an_album_has_the_photographs_of_a_folder_and_its_subfolders_but_no_icons(tmp_path):
    save(tmp_path / "b.png", (80, 90), "red")
    save(tmp_path / "nature" / "a.JPG", (100, 64), "blue")
    save(tmp_path / "icon.png", (48, 48), "green")
    (tmp_path / "notes.txt").write_text("not a picture")
    with pytest.warns(TrackerWarning, match="1 pictures below 64"):
        album = Album.of(tmp_path)
    assert [path.name for path in album.files] == ["b.png", "a.JPG"]
    (tmp_path / "icon.png").unlink()
    assert Album.of(tmp_path).digest == album.digest
    save(tmp_path / "b.png", (80, 90), "yellow")
    assert Album.of(tmp_path).digest != album.digest


def test_a_large_photograph_is_shrunk_and_keeps_its_shape_and_colours(tmp_path):
    wide = np.zeros((300, 2400, 3), np.uint8)
    wide[:, 1200:] = (10, 200, 30)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    picture = photographs.photograph(tmp_path / "wide.png", CPU)
    assert picture.shape == (3, 128, 1024)
    assert picture[:, 64, 100].tolist() == [0, 0, 0]
    assert picture[:, 64, 900].tolist() == [10, 200, 30]
    deep = np.full((70, 70), 0x8040, np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert photographs.photograph(tmp_path / "deep.png", CPU).unique().tolist() == [0x80]


def test_photographs_of_the_album_are_cut_as_often_as_those_of_scikit_image(tmp_path):
    path = save(tmp_path / "red.png", (80, 80), (255, 0, 0))
    found = 0
    for seed in range(300):
        piece = photographs._piece(torch.Generator().manual_seed(seed), (8, 8), (path,))
        found += bool((piece[0] > 0.99).all() and (piece[1:] < 0.01).all())
    assert 10 <= found <= 40  # 300 / 13 = 23


def test_clips_with_an_album_differ_and_are_cached_apart(tmp_path):
    save(tmp_path / "album" / "red.png", (80, 80), (255, 0, 0))
    album = Album.of(tmp_path / "album")
    shape = (1, 2, (64, 64), 4, 3, tmp_path / "clips")
    plain, other = SyntheticClips(*shape).clip(0), SyntheticClips(*shape, album).clip(0)
    assert len(list((tmp_path / "clips").glob("*.npz"))) == 2
    assert not torch.equal(plain.frames, other.frames)
    assert torch.equal(plain.frames, generate_clip(train_generator(3, 0), 2, (64, 64), 4).frames)


@pytest.mark.parametrize("content", ["missing", "empty", "damaged"])
def test_folders_without_photographs_are_refused(tmp_path, content):
    folder = tmp_path / "album"
    if content != "missing":
        folder.mkdir()
    if content == "damaged":
        (folder / "a.jpg").write_bytes(b"no picture")
    message = {
        "missing": "is not a folder",
        "empty": "has no photograph",
        "damaged": "a.jpg: is not an image",
    }
    with pytest.raises(ConfigError, match=message[content]):
        Album.of(folder)


def test_a_photograph_that_is_cut_short_is_named_when_it_is_read(tmp_path):
    path = save(tmp_path / "a.png", (80, 80), "red")
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(VideoError, match=r"a\.png"):
        photographs.photograph(path, CPU)
