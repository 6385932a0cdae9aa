"""The strip shows what a model makes of a video."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tiny_datasets import dots
from tiny_models import NUM_FRAMES, tiny_svd

from t4g_tracker.commands.paint_strip import main as strip
from t4g_tracker.generation.decoding import LinearReading
from t4g_tracker.training.track4gen.strip import labelled, paint_strip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--size", "250", "440"), "multiples of 64"),
        (("--shown", "0"), "--shown: must be a whole number from 1 to"),
    ],
)
def test_strip_refuses_what_it_cannot_paint(tmp_path, capsys, wrong, message):
    with pytest.raises(SystemExit) as ended:
        strip(["model", "--video", "x.mp4", "--out", str(tmp_path / "strip.png"), *wrong])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_strip_names_every_row(tmp_path):
    rows = paint_strip(tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames)
    picture = labelled(rows)
    assert next(iter(rows)) == "video"
    assert picture.shape == (len(rows) * (64 + 22), NUM_FRAMES * 64, 3)
    assert np.unique(picture[:22]).size > 1  # something is written there


def test_strip_shows_what_the_model_makes_of_the_video():
    """All but the video goes through the decoder; what is not noised does not depend on the seed."""
    pipeline, frames = tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames
    rows, others = paint_strip(pipeline, frames, seed=0), paint_strip(pipeline, frames, seed=1)
    again = paint_strip(pipeline, frames, seed=0)
    assert all(torch.equal(rows[name], again[name]) for name in rows)
    alike = {name for name in rows if torch.equal(rows[name], others[name])}
    assert alike == {"video", "autoencoder"}
    with torch.no_grad():
        latents = pipeline.vae.encode(frames.float() / 127.5 - 1).latent_dist.mode()
        shown = pipeline.vae.decode(latents, num_frames=NUM_FRAMES).sample
    there_and_back = ((shown + 1) * 127.5).round().clamp(0, 255)
    assert (rows["autoencoder"].float() - there_and_back).abs().max() <= 1


def test_linear_reading_finds_pictures_that_are_linear_in_the_latents():
    """Also in frames that it was not fitted to; what the latents do not hold, it does not know."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(3, 4, 12, 16, generator=generator)
    kernel = torch.randn(3 * 8 * 8, 4, 3, 3, generator=generator)
    cells = torch.nn.functional.conv2d(latents, kernel, padding=1) * 5 + 128
    pictures = torch.nn.functional.pixel_shuffle(cells, 8).round().clamp(0, 255).to(torch.uint8)
    read = LinearReading(latents[:2], pictures[:2])
    assert (read(latents[2:]).float() - pictures[2:].float()).abs().mean() < 2
    noise = LinearReading(torch.randn(2, 4, 12, 16, generator=generator), pictures[:2])
    assert (noise(latents[2:]).float() - pictures[2:].float()).abs().mean() > 15


def test_a_model_without_a_decoder_is_shown_all_the_same():
    pipeline, frames = tiny_svd(), dots(NUM_FRAMES, (64, 64)).frames
    for weight in pipeline.vae.decoder.parameters():
        weight.data.fill_(float("nan"))
    rows = paint_strip(pipeline, frames, read_linearly=True)
    assert list(rows)[:2] == ["video", "latents, read linearly"]
    closer, farther = (
        (rows[name].float() - frames.float()).abs().mean()
        for name in ("latents, read linearly", "noise of level 1")
    )
    assert closer < farther
