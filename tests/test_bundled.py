"""The bundled model is the track4gen extractor on its own folder, and says when it is not there."""

from __future__ import annotations

import pytest
import torch
from tiny_published import save_tiny_mini

from t4g_tracker import bundled
from t4g_tracker.bundled import TRACK4GEN_MINI
from t4g_tracker.config import read_settings
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import ConfigError, WeightsError
from t4g_tracker.features import extractor as features
from t4g_tracker.features.extractor import check_features, extract_features
from t4g_tracker.features.settings import DiffusionConfig, FeaturesConfig
from t4g_tracker.inputs.video import read_video, working_frames
from t4g_tracker.matching.settings import MatchingConfig
from t4g_tracker.metrics import score
from t4g_tracker.outputs.track_files import read_tracks_npz
from t4g_tracker.pipeline import Config
from t4g_tracker.tracking.settings import TrackingConfig
from t4g_tracker.tracking.tracker import track
from t4g_tracker.tracking.visibility import VisibilityConfig

CPU = torch.device("cpu")
ASSETS = TRACK4GEN_MINI.parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_mini(tmp_path_factory.mktemp("weights") / "track4gen-mini")


@pytest.fixture
def in_place(folder, monkeypatch):
    monkeypatch.setattr(features, "TRACK4GEN_MINI", folder)
    return folder


def test_it_gives_what_track4gen_gives_on_its_folder(in_place):
    frames = torch.randint(0, 256, (5, 3, 64, 96), dtype=torch.uint8, generator=torch.manual_seed(1))
    mini = FeaturesConfig(extractor="track4gen-mini")
    own = FeaturesConfig(extractor="track4gen", diffusion=DiffusionConfig(model=str(in_place)))
    found, expected = (extract_features(frames, config, CPU, seed=3) for config in (mini, own))
    assert torch.equal(found.values, expected.values)
    assert found.shape == (5, 32, 8, 12)  # its third block is its last, at the latents' stride
    assert (found.stride_px, found.offset_px) == (8, 3.5)
    assert found.values.isfinite().all()
    assert "refiner/diffusion_pytorch_model.safetensors" in check_features(mini)


def test_what_is_shipped_lies_beside_the_package_or_first_of_all_inside_it(monkeypatch, tmp_path):
    monkeypatch.setattr(bundled.importlib.resources, "files", lambda package: tmp_path / package)
    beside, inside = tmp_path / "configs", tmp_path / "t4g_tracker" / "configs"
    beside.mkdir()
    assert bundled.shipped("configs") == beside  # a checkout
    inside.mkdir(parents=True)
    assert bundled.shipped("configs") == inside  # installed, perhaps beside another project's configs


def test_without_its_folder_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(features, "TRACK4GEN_MINI", tmp_path / "nothing")
    with pytest.raises(WeightsError, match=r"nothing: is missing.*features\.extractor=patch") as error:
        check_features(FeaturesConfig(extractor="track4gen-mini"))
    assert "\n" not in str(error.value)


def test_a_model_of_ones_own_beside_it_is_refused(in_place):
    config = FeaturesConfig(extractor="track4gen-mini", diffusion=DiffusionConfig(model="mine"))
    with pytest.raises(
        ConfigError, match=r"model=mine: is not for track4gen-mini; set features\.extractor=track4gen"
    ):
        check_features(config)


def test_bundled_models_say_nothing_of_the_machine_that_trained_them():
    configs = list((ASSETS / "weights").rglob("*.json"))
    assert len(configs) >= 6
    for path in configs:
        words = path.read_text()
        assert "_name_or_path" not in words, path
        assert '"/' not in words, path


@pytest.mark.parametrize(
    ("extractor", "least"), [("track4gen-mini", 32), ("zeroscope", 64), ("dinov2", 8), ("fused", 32)]
)
def test_working_sizes_are_those_the_network_can_halve(extractor, least):
    wanted = [f"features.extractor={extractor}", f"working_size.multiple={least}"]
    assert read_settings(Config(), None, wanted).working_size.multiple == least
    if least > 8:
        wanted[1] = f"working_size.multiple={least // 2}"
        with pytest.raises(ConfigError, match=f"multiple of {least} for {extractor} features"):
            read_settings(Config(), None, wanted)


def test_the_bundled_model_finds_points_where_patches_do_not():
    """Zero-shot, on the bundled clip at half size: look-alike fish that bend and turn."""
    video = read_video(ASSETS / "koi.mp4")
    truth, queries, _, _ = read_tracks_npz(ASSETS / "koi.tracks.npz")
    video = Video(video.frames[:16], video.fps, video.name, video.source)
    early = (queries.frame < 16).nonzero().squeeze(1)
    queries = queries.subset(early)
    frames = working_frames(video, (256, 448))

    def delta_avg(extractor: str) -> float:
        grid = extract_features(frames, FeaturesConfig(extractor=extractor), CPU, seed=0)
        tracks = track(
            queries, grid, video, MatchingConfig(), TrackingConfig(subpixel=False), VisibilityConfig()
        )
        return score(tracks, truth.first(16).subset(early), queries, video.size, "strided").delta_avg

    assert delta_avg("track4gen-mini") > delta_avg("patch") + 20
