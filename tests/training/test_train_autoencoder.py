"""``t4g train-autoencoder``: one part after the other, decided by the seed."""

from __future__ import annotations

import json

import torch
from tiny_runs import train_tiny

from t4g_tracker.training.loop.frozen import weights_digest
from t4g_tracker.training.track4gen.model_folder import load_autoencoder


def test_decoder_and_encoder_are_trained_one_after_the_other(tmp_path):
    """Each part leaves the other as it was, also when it is trained further."""
    out = tmp_path / "ae"
    stretch = ("clips.segment_frames=4",)
    assert train_tiny("train-autoencoder", out, "--part", "encoder", settings=stretch) == 0
    first = load_autoencoder(out)
    assert train_tiny("train-autoencoder", out, "--part", "decoder", settings=stretch) == 0
    second = load_autoencoder(out)
    assert weights_digest(second.encoder, second.quant_conv) == weights_digest(
        first.encoder, first.quant_conv
    )
    assert weights_digest(second.decoder) != weights_digest(first.decoder)
    longer = (*stretch, "trainer.steps=6")
    assert train_tiny("train-autoencoder", out, "--part", "encoder", settings=longer) == 0
    third = load_autoencoder(out)
    assert weights_digest(third.encoder) != weights_digest(second.encoder)
    assert weights_digest(third.decoder) == weights_digest(second.decoder)
    # the decoder's checkpoint belongs to the encoder it was trained for
    assert train_tiny("train-autoencoder", out, "--part", "decoder", settings=stretch) == 2


def test_the_seed_decides_the_whole_training_of_an_encoder(tmp_path):
    """The auxiliary decoder begins with random weights too."""
    histories = []
    for name, before in (("one", 1), ("two", 2)):
        torch.manual_seed(before)
        out, stretch = tmp_path / name, ("clips.segment_frames=4",)
        assert train_tiny("train-autoencoder", out, "--part", "encoder", settings=stretch) == 0
        rows = [json.loads(row) for row in (out / "encoder" / "history.jsonl").read_text().splitlines()]
        histories.append([{k: v for k, v in row.items() if k != "seconds"} for row in rows])
    assert len(histories[0]) > 1
    assert histories[0] == histories[1]
