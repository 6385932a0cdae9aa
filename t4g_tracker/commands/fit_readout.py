"""The last convolution of a trained UNet, fitted anew to the denoising loss alone.

``python -m t4g_tracker.commands.fit_readout MODEL --out FOLDER`` reads a folder of ``t4g train-track4gen``.

The denoising loss is the squared error of the UNet's answer, and the answer is linear in
the last convolution. So what is best for the features before it is a linear regression, without steps or
learning rate. Features come before that convolution and do not change.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.errors import ConfigError
from t4g_tracker.features.diffusion_weights import find_folder
from t4g_tracker.files import prepare_output_folder
from t4g_tracker.training.track4gen.dataset import ClipViews, SyntheticClips, View
from t4g_tracker.training.track4gen.denoising import best_answer, draw_sigma
from t4g_tracker.training.track4gen.model_folder import save_model, starting_point
from t4g_tracker.training.track4gen.objective import ObjectiveConfig, Track4GenObjective
from t4g_tracker.training.track4gen.regression import neighbourhoods, ridge_regression, rows

LEVELS = 3  # noise levels that each stretch of frames is looked at
RIDGE = 1e-4  # of the mean square of what the convolution reads
KEPT_CLIPS = (24, (288, 512), 512)  # frames, size and points of the clips that the trainings keep
VIEW_SIZE = (192, 320)  # of what is looked at, as the bundled model was trained


@torch.no_grad()
def fit_last_convolution(objective: Track4GenObjective, stretches: Iterable[Tensor]) -> None:
    """Replace the UNet's last convolution by the one with the least denoising loss.

    Noise is drawn from PyTorch's own generator, levels as in training but for ``low_noise_share``.

    Args:
        objective: On the CPU.
        stretches: Of (N, 3, H, W) uint8 frames, N as the UNet sees at once.

    Raises:
        ConfigError: If there are no stretches.
    """
    last, config = objective.unet.conv_out, objective.config
    inputs = last.weight[0].numel() + 1
    square = torch.zeros(inputs, inputs, dtype=torch.float64)
    product = torch.zeros(inputs, len(last.weight), dtype=torch.float64)
    read: list[Tensor] = []
    hook = last.register_forward_pre_hook(lambda module, arguments: read.append(arguments[0]))
    try:
        for frames in stretches:
            pixels = (frames.float() / 127.5 - 1)[None]
            latents = objective.encode(pixels)
            for _ in range(LEVELS):
                sigma = draw_sigma(1, config.sigma_mean, config.sigma_spread)
                noisy = latents + sigma.view(-1, 1, 1, 1, 1) * torch.randn_like(latents)
                keep = (torch.rand(1) >= config.drop_image).float()
                objective.run_unet(pixels, noisy, sigma, keep)
                seen = neighbourhoods(read.pop().float())
                wanted = rows(best_answer(noisy, latents, sigma)[0].flatten(2))
                square += seen.mT @ seen
                product += seen.mT @ wanted
    finally:
        hook.remove()
    if not square.any():
        raise ConfigError("there are no clips to fit to; --clips must be at least 1")
    ridge = RIDGE * float(square.diagonal().mean())
    weights = ridge_regression(square, product, ridge).mT.to(last.weight.dtype)
    last.weight.copy_(weights[:, :-1].reshape(last.weight.shape))
    last.bias.copy_(weights[:, -1])


def main(argv: list[str] | None = None) -> int:
    """Run the command: returns the exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m t4g_tracker.commands.fit_readout", description=__doc__)
    parser.add_argument("model", help="folder of the model")
    parser.add_argument("--out", type=Path, required=True, help="folder to write the model to")
    parser.add_argument("--clips", type=int, default=300, help="synthetic clips (default %(default)s)")
    parser.add_argument("--keep-clips", type=Path, help="folder where clips are kept once drawn")
    parser.add_argument("--seed", type=int, default=0)
    request = parser.parse_args(argv)
    prepare_output_folder(request.out)
    refined = (find_folder(request.model, need_refiner=False) / "refiner").is_dir()
    config = ObjectiveConfig(refiner=refined, train_image_encoder=True)
    pipeline, refiner = starting_point(request.model, config, request.seed, "model")
    segment_frames = int(pipeline.unet.config.num_frames)
    objective = Track4GenObjective(pipeline, refiner, config, segment_frames).eval()
    clips = SyntheticClips(request.clips, *KEPT_CLIPS, request.seed, request.keep_clips)
    views = ClipViews(clips, View(1, segment_frames, VIEW_SIZE, turn=0.3, zoom=1.35, tint=0.2), request.seed)
    torch.manual_seed(request.seed)
    numbers = tqdm(range(request.clips), unit="clip", dynamic_ncols=True)
    fit_last_convolution(objective, (views[number, number].frames for number in numbers))
    save_model(request.out, objective, pipeline)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
