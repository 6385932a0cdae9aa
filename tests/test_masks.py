"""Masks: what is not zero is inside; one per frame keeps its place when it is resized as the frames are."""

import os
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, VideoError
from t4g_tracker.inputs.masks import read_foreground, read_mask

VIDEO = Video(np.zeros((24, 36, 64, 3), np.uint8), 24.0, "dog", "assets/dog.mp4")


def save(folder, masks):
    folder.mkdir()
    for index, mask in enumerate(masks):
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{index}.png")
    return folder


def blank(frames, height, width):
    return Video(np.zeros((frames, height, width, 3), np.uint8), 24.0, "clip", "clip.mp4")


def test_a_smaller_mask_says_what_is_at_the_middle_of_its_cells(tmp_path):
    mask = np.zeros((6, 9), bool)
    mask[1::3, 4::3] = True  # the middles of cells of 3x3, but for the first column of cells
    found = read_foreground(save(tmp_path / "masks", [mask, ~mask]), blank(2, 6, 9), (2, 3))
    right = torch.tensor([False, True, True]).expand(2, 3)
    assert torch.equal(found, torch.stack([right, ~right]))


def test_the_first_masks_are_of_the_first_frames(tmp_path):
    masks = [np.eye(4, dtype=bool), np.zeros((4, 4), bool), np.ones((4, 4), bool)]
    folder = save(tmp_path / "masks", masks)
    found = read_foreground(folder, blank(2, 4, 4), (4, 4), first_frames=2)
    assert torch.equal(found, torch.from_numpy(np.stack(masks[:2])))
    found = read_foreground(folder, blank(2, 4, 4), (4, 4), first_frames=2, skip=1)
    assert torch.equal(found, torch.from_numpy(np.stack(masks[1:])))
    with pytest.raises(VideoError, match=r"has 3 mask images, but clip\.mp4 has 2 frames"):
        read_foreground(folder, blank(2, 4, 4), (4, 4))


def object_at(value, background=0, depth=np.uint8):
    image = np.full((36, 64), background, depth)
    image[4:9, 30:50] = value
    return image


def palette_image():
    """An object of index 1 painted red on a white background of index 0, to mislead."""
    image = Image.fromarray(object_at(1)).convert("P")
    image.putdata(object_at(1).ravel())
    image.putpalette([255, 255, 255, 200, 0, 0])
    return image


def cutout_image():
    """An opaque object; white shows beneath the transparent background."""
    colour = np.full((36, 64, 4), 255, np.uint8)
    colour[..., 3] = object_at(255)
    return Image.fromarray(colour)


@pytest.mark.filterwarnings("ignore:.*its palette index 0")
@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("grey.png", Image.fromarray(object_at(1))),
        ("deep.png", Image.fromarray(object_at(1, depth=np.uint16))),
        ("bits.png", Image.fromarray(object_at(255)).convert("1")),
        ("davis.png", palette_image()),
        ("blue.png", Image.fromarray(object_at(1)[..., None] * np.array([0, 0, 9], np.uint8))),
        ("opaque.png", Image.fromarray(object_at(255)).convert("RGBA")),
        ("cutout.png", cutout_image()),
        ("smeared.jpg", Image.fromarray(object_at(255))),
    ],
)
def test_a_mask_is_what_is_not_zero(tmp_path, name, image):
    image.save(tmp_path / name)
    mask = read_mask(tmp_path / name, VIDEO)
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, object_at(1).astype(bool))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("gone.png", None, "no such file"),
        ("text.png", b"not an image", "not an image"),
        ("small.png", np.ones((18, 32), np.uint8), "is 32x18 pixels, but assets/dog.mp4 is 64x36"),
        ("black.png", np.zeros((36, 64), np.uint8), "nothing inside"),
    ],
)
def test_bad_masks_are_refused_by_name(tmp_path, name, content, reason):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        Image.fromarray(content).save(path)
    with pytest.raises(QueryError) as caught:
        read_mask(path, VIDEO)
    assert str(caught.value).startswith(f"{path}: ")
    assert reason in str(caught.value)


def test_bad_mask_files_are_refused_before_they_are_read(tmp_path):
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "dead.png").symlink_to("gone")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    np.save(tmp_path / "text.npy", object_at(1).astype(str))
    np.save(tmp_path / "scores.npy", object_at(2.5, -1.5, np.float32))
    np.save(tmp_path / "void.npy", object_at(1, -1, np.int32))
    np.save(tmp_path / "percent.npy", object_at(99.5, 0, np.float32))
    np.savez(tmp_path / "several.npz", a=object_at(1))
    np.save(tmp_path / "number.npy", np.array(1))
    np.save(tmp_path / "row.npy", np.ones(64, np.uint8))
    np.save(tmp_path / "huge.npy", object_at(2.0**63, 0, np.float32))
    np.save(tmp_path / "pickled.npy", np.array([{}], object), allow_pickle=True)
    with (tmp_path / "claims.npy").open("wb") as file:  # a terabyte, by its header
        header = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**6)}
        np.lib.format.write_array_header_1_0(file, header)
    Image.new("L", (64, 36)).save(
        tmp_path / "pages.tif", save_all=True, append_images=[Image.new("L", (64, 36))]
    )
    for name, reason in (
        ("folder.png", "is a folder"),
        ("pipe.png", "is a pipe"),
        ("dead.png", "is a link to a file that is not there"),
        ("zero.png", "is a device"),
        ("text.npy", "is <U3 (36, 64); a mask is (H, W) of bool or whole numbers"),
        ("scores.npy", "has values below 0 or not finite; a mask has 0 outside"),
        ("void.npy", "has values below 0 or not finite"),
        ("percent.npy", "has fractions above 1; a mask is bool, whole numbers, or probabilities"),
        ("several.npz", "holds several arrays; save the mask alone"),
        ("number.npy", r"is int64 (); a mask is (H, W)"),
        ("row.npy", r"is uint8 (64,); a mask is (H, W)"),
        ("huge.npy", "has fractions above 1"),
        ("pickled.npy", "holds pickled objects"),
        ("claims.npy", "is not readable as numpy's"),
        ("pages.tif", "holds 2 pictures; a mask is one"),
    ):
        with pytest.raises(QueryError) as caught:
            read_mask(tmp_path / name, VIDEO)
        assert str(caught.value).startswith(f"{tmp_path / name}: {reason}")


def test_a_mask_of_half_precision_is_read_without_a_warning(tmp_path):
    np.save(tmp_path / "m.npy", object_at(1, 0, np.float16))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(read_mask(tmp_path / "m.npy", VIDEO), object_at(1) > 0)
