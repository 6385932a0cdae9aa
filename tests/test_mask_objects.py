"""Objects of a mask: found in whatever people save masks as, all of them taken or one by name."""

import os
import re

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.arrays import as_masks
from t4g_tracker.commands.compare_features import parse_compare
from t4g_tracker.commands.davis import parse_davis
from t4g_tracker.commands.track import parse_track
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import QueryError, TrackerWarning, VideoError
from t4g_tracker.inputs.masks import read_foreground, read_mask

CLIP = Video(np.zeros((3, 128, 192, 3), np.uint8), 24.0, "dog", "dog.mp4")
RECTANGLE = np.zeros((128, 192), bool)
RECTANGLE[40:80, 60:120] = True
OTHER = np.zeros((128, 192), bool)
OTHER[100:120, 10:40] = True
DISC = np.hypot(np.arange(128)[:, None] - 60.3, np.arange(192) - 90.7) < 30
NOISE = np.random.default_rng(0).integers(0, 256, (128, 192, 3)).astype(np.uint8)
RED, GREEN = (128, 0, 0), (0, 128, 0)  # objects 1 and 2 of DAVIS


def painted(*objects):
    """Paint masks (H, W) in colours or grey values, on black."""
    picture = np.zeros((128, 192, 3), np.uint8)
    for mask, value in objects:
        picture[mask] = value
    return picture if any(isinstance(value, tuple) for _, value in objects) else picture[..., 0]


def write(path, picture, **options):
    if path.suffix == ".npy":
        np.save(path, picture)
    else:
        (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return path


def with_palette(indexes, void=(224, 224, 192)):
    image = Image.fromarray(indexes, "P")
    image.putpalette([0, 0, 0, *RED, *GREEN] + [0, 0, 0] * 252 + list(void))
    return image


def wrong_pixels(path, right, **options):
    return int((read_mask(path, CLIP, **options) != right).sum())


@pytest.mark.parametrize("shape", [RECTANGLE, DISC], ids=["rectangle", "disc"])
@pytest.mark.parametrize("colour", [(255, 255, 255), RED, (0, 0, 128), (64, 0, 0), (192, 0, 0)])
@pytest.mark.parametrize(("suffix", "quality"), [(".jpg", 75), (".jpg", 90), (".webp", 60), (".avif", 60)])
@pytest.mark.filterwarnings("error")
def test_a_mask_saved_with_loss_keeps_its_edge(tmp_path, shape, colour, suffix, quality):
    """White keeps it exactly; colours are stored at half size, so that 1 in 40 pixels may change."""
    path = write(tmp_path / f"mask{suffix}", painted((shape, colour)), quality=quality)
    assert wrong_pixels(path, shape) <= (0 if colour == (255, 255, 255) else shape.sum() / 40)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("ones.npy", RECTANGLE),
        ("ids.npy", RECTANGLE[None].astype(np.int64)),
        ("floats.npy", RECTANGLE.astype(np.float32)),
        ("one.webp", painted((RECTANGLE, 1))),
        ("one.tif", painted((RECTANGLE, 1))),
        ("one.gif", painted((RECTANGLE, 1))),
        ("deep.png", RECTANGLE.astype(np.uint16) * 700),
        ("photograph.png", np.dstack([NOISE, RECTANGLE * 255])),
        ("black.png", np.dstack([np.zeros((128, 192, 3)), RECTANGLE * 255])),
        ("faint.png", np.dstack([painted((RECTANGLE, (200, 0, 0))), RECTANGLE * 100])),
        ("hidden.png", np.dstack([painted((RECTANGLE, RED), (OTHER, GREEN)), ~OTHER * 255])),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_masks_as_people_save_them_are_exact(tmp_path, name, values):
    values = values.astype(np.uint8) if values.ndim == 3 and name.endswith("png") else values
    assert wrong_pixels(write(tmp_path / name, values, lossless=True), RECTANGLE) == 0


def test_a_deep_colour_of_1_is_inside(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), painted((RECTANGLE, (1, 0, 0))).astype(np.uint16))
    assert wrong_pixels(tmp_path / "deep.png", RECTANGLE) == 0


@pytest.mark.parametrize("deviation_px", [1, 4])
@pytest.mark.parametrize("colour", [(255, 255, 255), (0, 128, 128)])
def test_soft_edges_are_inside_from_half_the_colour(tmp_path, deviation_px, colour):
    picture = cv2.GaussianBlur(painted((DISC, colour)).astype(np.float32), (0, 0), deviation_px)
    write(tmp_path / "soft.png", picture.round().astype(np.uint8))
    with pytest.warns(TrackerWarning, match=r"soft\.png: has soft edges; what is at least half") as caught:
        # A blurred disc of radius r is half as bright at about r - s^2 / 2r.
        assert wrong_pixels(tmp_path / "soft.png", DISC) <= 2 * np.pi * deviation_px**2
    assert len(caught) == 1


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".npy"])
def test_a_map_of_probabilities_is_inside_from_a_half(tmp_path, suffix):
    """A slow ramp: none of its values fills more than a thin ring."""
    distance_px = np.hypot(np.arange(128)[:, None] - 60.3, np.arange(192) - 90.7)
    probability = 1 / (1 + np.exp((distance_px - 30) / 8))
    values = probability.astype(np.float32) if suffix == ".npy" else (probability * 255).astype(np.uint8)
    path = write(tmp_path / f"map{suffix}", values)
    with pytest.warns(TrackerWarning, match=r"has soft edges; what is at least half") as caught:
        assert wrong_pixels(path, DISC) <= DISC.sum() / 25
    assert len(caught) == 1


def test_masks_in_memory_are_those_of_files():
    right = torch.from_numpy(np.stack([DISC] * 3))
    for masks in (right, right.float(), right.int() * 7):
        assert torch.equal(as_masks(masks, CLIP, (128, 192)), right)
    with pytest.warns(TrackerWarning, match="masks: are probabilities; what is at least 0.5 is inside"):
        assert torch.equal(as_masks(right * 0.3 + 0.3, CLIP, (128, 192)), right)
    with pytest.raises(QueryError, match="masks: has values below 0"):
        as_masks(right * 9.5 - 3, CLIP, (128, 192))


def test_photographs_are_no_masks(tmp_path):
    photograph = cv2.GaussianBlur(NOISE, (0, 0), 2)
    photograph[RECTANGLE] = photograph[RECTANGLE] // 2 + np.array([127, 0, 0], np.uint8)
    for name, picture in (("a.png", photograph), ("b.jpg", photograph), ("c.png", photograph[..., 0])):
        with pytest.raises(QueryError, match=rf"{name}: has the many colours of a photograph; give a mask"):
            read_mask(write(tmp_path / name, picture), CLIP)
    ids = painted((RECTANGLE, 1), (OTHER, 2))
    with pytest.raises(QueryError, match=r"ids\.jpg: .* no value above 2, so that its objects are lost"):
        read_mask(write(tmp_path / "ids.jpg", ids), CLIP)


DAVIS = "1 (128,0,0), 2 (0,128,0)"
SEVERAL = {  # picture, objects, number and colour of the second
    "palette.png": (with_palette(painted((RECTANGLE, 1), (OTHER, 2))), DAVIS, 2, GREEN),
    "grey.png": (painted((RECTANGLE, 1), (OTHER, 2)), "1, 2", 2, (2, 2, 2)),
    "deep.png": (painted((RECTANGLE, 3), (OTHER, 5)).astype(np.uint16) * 257, "771, 1285", 1285, None),
    "colours.png": (painted((RECTANGLE, RED), (OTHER, GREEN)), DAVIS, 2, GREEN),
    "colours.jpg": (painted((RECTANGLE, RED), (OTHER, GREEN)), DAVIS, 2, GREEN),
    "grey.webp": (painted((RECTANGLE, 255), (OTHER, 120)), "120, 255", 120, None),
    "own.png": (painted((RECTANGLE, (255, 0, 0)), (OTHER, (9, 8, 7))), "9,8,7, 255,0,0", None, (9, 8, 7)),
    "ids.npy": (painted((RECTANGLE, 1), (OTHER, 2)).astype(np.int32), "1, 2", 2, None),
}


@pytest.mark.parametrize("name", SEVERAL)
def test_of_several_objects_all_are_inside_or_the_one_that_is_named(tmp_path, name):
    picture, objects, number, colour = SEVERAL[name]
    path = write(tmp_path / name, picture)
    with pytest.warns(TrackerWarning) as caught:
        assert wrong_pixels(path, RECTANGLE | OTHER) == 0
    assert [str(warning.message) for warning in caught] == [
        f"{path}: has several objects, {objects}, and all are inside; choose one with --mask-object"
    ]
    for chosen in filter(None, (number, colour)):
        assert wrong_pixels(path, OTHER, mask_object=chosen) == 0
    for absent in (77, (1, 200, 90)):
        with pytest.raises(QueryError, match=rf"{name}: has no object .*; it has {re.escape(objects)}"):
            read_mask(path, CLIP, mask_object=absent)


def test_void_beside_other_indexes_is_outside(tmp_path):
    path = write(tmp_path / "voc.png", with_palette(painted((RECTANGLE, 1), (OTHER, 255))))
    with pytest.warns(TrackerWarning, match=r"voc\.png: its palette index 255 is outside, .* not annotated"):
        assert wrong_pixels(path, RECTANGLE) == 0
    assert wrong_pixels(path, OTHER, mask_object=255) == 0


def test_a_palette_whose_outside_is_not_black_is_doubtful(tmp_path):
    image = Image.fromarray(painted((RECTANGLE, 1)), "P")
    image.putpalette([255, 255, 255, *RED])
    with pytest.warns(TrackerWarning, match=r"p\.png: its palette index 0, which is outside, is not black"):
        assert wrong_pixels(write(tmp_path / "p.png", image), RECTANGLE) == 0


@pytest.mark.filterwarnings("error")
def test_of_a_gif_the_colours_count(tmp_path):
    image = Image.fromarray(painted((~RECTANGLE, 1)), "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    assert wrong_pixels(write(tmp_path / "m.gif", image, optimize=False), RECTANGLE) == 0


def soft_disc():
    return Image.fromarray(cv2.GaussianBlur(DISC * np.uint8(255), (0, 0), 1))


@pytest.mark.parametrize(
    "image",
    [
        soft_disc().convert("P"),  # grey values as indexes, white at 255
        soft_disc().convert("RGB").quantize(16),
        Image.fromarray(DISC * np.uint8(255)).convert("RGB").quantize(2),  # white at 0, black at 1
        Image.merge("LA", [Image.fromarray(DISC * np.uint8(255))] * 2).convert("RGBA").quantize(4),
    ],
    ids=["grey", "soft", "hard", "transparent"],
)
@pytest.mark.filterwarnings("ignore:.*soft edges")
@pytest.mark.filterwarnings("error:.*(index|objects)")
def test_of_a_palette_made_by_reducing_colours_the_colours_count(tmp_path, image):
    assert image.mode == "P"
    assert wrong_pixels(write(tmp_path / "p.png", image), DISC) <= 2 * np.pi


def test_white_at_index_255_is_an_object(tmp_path):
    path = write(tmp_path / "p.png", with_palette(painted((RECTANGLE, 1), (OTHER, 255)), (255, 255, 255)))
    with pytest.warns(TrackerWarning, match=r"has several objects, 1 .*, 255 .*, and all are inside"):
        assert wrong_pixels(path, RECTANGLE | OTHER) == 0


@pytest.mark.filterwarnings("ignore:.*several objects")
def test_indexes_count_where_index_0_is_black(tmp_path):
    """Also if the palette has black again."""
    path = write(tmp_path / "p.png", with_palette(painted((RECTANGLE, 1), (OTHER, 7))))
    assert wrong_pixels(path, RECTANGLE | OTHER) == 0
    assert wrong_pixels(path, OTHER, mask_object=7) == 0


@pytest.mark.filterwarnings("error")
def test_index_255_alone_is_the_object(tmp_path):
    assert wrong_pixels(write(tmp_path / "p.png", with_palette(painted((OTHER, 255)))), OTHER) == 0


def test_one_object_of_a_folder_of_masks(tmp_path):
    pictures = [painted((RECTANGLE, RED), (OTHER, GREEN)), painted((RECTANGLE, RED)), painted()]
    for index, picture in enumerate(pictures):
        write(tmp_path / f"{index}.png", picture)
    found = read_foreground(tmp_path, CLIP, (128, 192), mask_object=2)
    assert torch.equal(found, torch.from_numpy(np.stack([OTHER, OTHER & RECTANGLE, OTHER & RECTANGLE])))
    with pytest.warns(
        TrackerWarning, match=rf"^{tmp_path}: has several objects, 1 .*, 2 .*, and all"
    ) as caught:
        found = read_foreground(tmp_path, CLIP, (128, 192))
    assert torch.equal(found[0], torch.from_numpy(RECTANGLE | OTHER))
    assert len(caught) == 1
    with pytest.raises(VideoError, match=rf"{tmp_path}: no mask has the object 3; they have 1 .*, 2 "):
        read_foreground(tmp_path, CLIP, (128, 192), mask_object=3)


@pytest.mark.filterwarnings("error")
def test_lossy_masks_of_one_object_have_one(tmp_path):
    for index, value in enumerate((250, 253, 255)):
        write(tmp_path / f"{index}.jpg", painted((RECTANGLE, value)), quality=50)
    found = read_foreground(tmp_path, CLIP, (128, 192))
    assert torch.equal(found[2], torch.from_numpy(RECTANGLE))


def test_a_folder_of_masks_is_read_as_strictly_as_one_of_frames(tmp_path):
    for index in (1, 2, 4):
        np.save(tmp_path / f"{index}.npy", RECTANGLE)
    with pytest.warns(TrackerWarning, match=rf"^{tmp_path}: has no file with number 3; "):
        read_foreground(tmp_path, CLIP, (128, 192))
    os.mkfifo(tmp_path / "5.png")
    with pytest.raises(VideoError, match=r"5\.png: is a pipe; restore it"):
        read_foreground(tmp_path, CLIP, (128, 192))


def test_the_command_line_names_an_object(capsys):
    video = ["--video", "x.mp4", "--grid", "4", "--mask", "m.png"]
    assert parse_track([*video, "--mask-object", "2"]).mask_object == 2
    assert parse_compare([*video, "--features", "patch", "--mask-object", "0,128, 0"]).mask_object == GREEN
    assert parse_davis(["--davis", "D", "--mask-object", "2"]).mask_object == 2
    for wrong in ("0", "-1", "a", "1,2", "0,0,256", "1.5"):
        with pytest.raises(SystemExit):
            parse_track([*video, f"--mask-object={wrong}"])
        assert (
            f"must be a number from 1, or a colour as R,G,B of 0 to 255, got {wrong}"
            in capsys.readouterr().err
        )
    with pytest.raises(SystemExit):
        parse_track(["--video", "x.mp4", "--grid", "4", "--mask-object", "2"])
    assert "--mask-object goes with masks; give --mask or --foreground" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["video levels", "compressed before", "enlarged", "of a lossless film"])
@pytest.mark.filterwarnings("error:.*several objects")
def test_grey_that_is_dark_or_bright_alone_is_one_object(tmp_path, kind):
    white = painted((RECTANGLE, 255))
    if kind == "video levels":
        picture = np.where(RECTANGLE, 235, 16).astype(np.uint8)
    elif kind == "compressed before":
        again = Image.open(write(tmp_path / "m.jpg", white, quality=60))
        picture = np.asarray(again)
    elif kind == "enlarged":
        picture = cv2.resize(white[::2, ::2], (192, 128), interpolation=cv2.INTER_LINEAR)
    else:
        picture = np.where(RECTANGLE & (np.arange(192) % 3 == 0), 252, white).astype(np.uint8)
    assert wrong_pixels(write(tmp_path / "m.png", picture), RECTANGLE) == 0


@pytest.mark.parametrize("values", [(1, 2), (100, 200), (200, 255), (26001, 26002)])
def test_grey_numbers_of_objects_stay_apart(tmp_path, values):
    picture = np.zeros((128, 192), np.uint16 if max(values) > 255 else np.uint8)
    for shape, value in zip((RECTANGLE, OTHER), values, strict=True):
        picture[shape] = value
    with pytest.warns(TrackerWarning, match=f"several objects, {values[0]}, {values[1]}"):
        assert wrong_pixels(write(tmp_path / "m.png", picture), RECTANGLE | OTHER) == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32])
def test_numbers_of_objects_in_an_array_stay_apart(tmp_path, dtype):
    numbers = np.where(RECTANGLE, 19, np.where(OTHER, 20, 0)).astype(dtype)
    assert wrong_pixels(write(tmp_path / "m.npy", numbers), RECTANGLE, mask_object=19) == 0
