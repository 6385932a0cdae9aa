"""A folder of generated videos, as small as can be."""

from __future__ import annotations

import json

import numpy as np
from tiny_videos import moving_square, write_video

from t4g_tracker.outputs.generated import RECORD, list_generated, video_name
from t4g_tracker.visualize.encoding import write_picture

MODELS = ("pretrained-model", "finetuned-model", "norefiner-model", "track4gen-model")
OURS, BASELINES = MODELS[-1], MODELS[:-1]


def write_generated(folder, images=("cow", "dog"), models=MODELS, seeds=(1, 12), frames=4):
    """IMAGE/MODEL/seed-N.mp4 and IMAGE/input.png; a corner of each video has a colour of its own."""
    for row, image in enumerate(images):
        (folder / image).mkdir(parents=True)
        for column, model in enumerate(models):
            (folder / image / model).mkdir()
            for seed in seeds:
                pictures = moving_square(frames, 64, 96)
                pictures[:, :16, 48:64] = (60 * row, 60 * column, 5 * seed)
                path = folder / image / model / f"seed-{seed}.mp4"
                write_video(path, pictures, rate=8, pixels="yuv420p")
        write_picture(folder / image / "input.png", np.full((64, 96, 3), 60 * row, np.uint8))
    return folder


SETTINGS = {"height": 64, "width": 96, "frames": 4, "steps": 25, "fps": 7, "picture": "one"}


def write_record(folder, changed, same_noise=None):
    """The record of the videos in a folder: of each model what is ``changed`` of SETTINGS."""
    videos = {
        video_name(video.image, video.model, video.seed): {"settings": {**SETTINGS, **changed[video.model]}}
        for video in list_generated(folder)
        if video.model in changed
    }
    models = {model: {} for model in changed}
    record = {"models": models, "same_noise": same_noise or [list(changed)], "videos": videos}
    (folder / RECORD).write_text(json.dumps(record))
