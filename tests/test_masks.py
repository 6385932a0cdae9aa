"""Foreground masks: one a frame, brought to the working size about the same centres as the frames."""

import numpy as np
import pytest
import torch
from PIL import Image

from t4g_tracker.datatypes import Video
from t4g_tracker.errors import VideoError
from t4g_tracker.masks import read_foreground


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
    with pytest.raises(VideoError, match=r"has 3 mask images, but clip\.mp4 has 2 frames"):
        read_foreground(folder, blank(2, 4, 4), (4, 4))
