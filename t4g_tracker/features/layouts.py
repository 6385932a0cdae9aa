"""The files in a folder of published weights, for each kind of model."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of one kind of model, as paths inside its folder."""

    setting: str  # the setting that names such a folder
    kind: str  # description of such a folder, for error messages
    configs: tuple[str, ...]  # JSON files that must be there
    weighted: tuple[str, ...]  # folders that hold weights; "." is the folder itself
    others: tuple[str, ...] = ()  # patterns of further files to download


SVD = Layout(
    setting="features.diffusion.model",
    kind="a diffusers folder of Stable Video Diffusion",
    configs=(
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "image_encoder/config.json",
        "scheduler/scheduler_config.json",
        "feature_extractor/preprocessor_config.json",
    ),
    weighted=("unet", "vae", "image_encoder"),
    # parts that a trained model may have besides, without which it is another model
    others=tuple(
        f"{part}/{name}"
        for part in ("refiner", "feedback", "not_here")
        for name in ("config.json", "*.safetensors", "*.safetensors.index.json")
    ),
)

TRACK4GEN = replace(
    SVD,
    configs=(*SVD.configs, "refiner/config.json"),
    weighted=(*SVD.weighted, "refiner"),
)

# Beside the parts of SVD, in models trained with objective.feedback.
FEEDBACK = Layout(
    setting=SVD.setting,
    kind="the whole folder of such a model",
    configs=("unet/config.json", "refiner/config.json", "feedback/config.json"),
    weighted=("refiner", "feedback"),
)

ZEROSCOPE = Layout(
    setting="features.zeroscope.model",
    kind="a diffusers folder of ZeroScope",
    configs=(
        "model_index.json",
        "unet/config.json",
        "vae/config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
    ),
    weighted=("unet", "vae", "text_encoder"),
    others=("tokenizer/*",),
)

DINOV2 = Layout(
    setting="features.dinov2.model",
    kind="a transformers folder of DINOv2",
    configs=("config.json",),
    weighted=(".",),
)

DINO = Layout(
    setting="features.dino.model",
    kind="a transformers folder of DINO",
    configs=("config.json",),
    weighted=(".",),
)

CLIP = Layout(
    setting="--clip",
    kind="a transformers folder of CLIP",
    configs=("config.json", "preprocessor_config.json"),
    weighted=(".",),
)
