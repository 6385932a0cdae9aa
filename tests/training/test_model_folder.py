"""What a training starts from, and the settings that read what it leaves."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_runs import train_tiny

from t4g_tracker.errors import WeightsError
from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.track4gen.autoencoder import mini_autoencoder
from t4g_tracker.training.track4gen.model_folder import extractor_settings, load_autoencoder, starting_point
from t4g_tracker.training.track4gen.objective import ObjectiveConfig


def test_features_are_taken_as_they_were_trained():
    trained = ObjectiveConfig(block=1, fps=9, refiner=False)
    found = extractor_settings(Path("model"), trained, refined=False)
    prefix = "features.diffusion."
    assert set(found) == {
        f"{prefix}{setting}" for setting in ("model=model", "block=1", "fps=9", "refiner=false")
    }


def test_an_autoencoder_that_lacks_weights_or_is_cut_short_is_refused(tmp_path):
    mini_autoencoder().save_pretrained(tmp_path / "vae")
    (path,) = (tmp_path / "vae").glob("*.safetensors")
    whole = load_file(path)
    save_file({name: value for name, value in whole.items() if "encoder.conv_in" not in name}, path)
    with pytest.raises(WeightsError, match=r"2 missing weights, the first is encoder\.conv_in"):
        load_autoencoder(tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load_autoencoder(tmp_path)


def test_the_mini_pipeline_begins_with_what_the_autoencoder_is(tmp_path):
    folder, stretch = tmp_path / "ae", ("clips.segment_frames=4",)
    assert train_tiny("train-autoencoder", folder, "--part", "encoder", settings=stretch) == 0
    start = starting_point(str(folder), ObjectiveConfig(), seed=0)
    assert weights_digest(start.pipeline.vae) == weights_digest(load_autoencoder(folder))
    assert start.refiner.config.channels == start.pipeline.unet.config.block_out_channels[0]
    again = starting_point(str(folder), ObjectiveConfig(), seed=0)
    assert weights_digest(*again.modules()) == weights_digest(*start.modules())
