"""LPIPS: how different neighbouring frames are to the layers of an image classifier.

torchmetrics' implementation, which carries the published linear layers; the classifier is torchvision's.

Source: Zhang et al., The Unreasonable Effectiveness of Deep Features, arXiv:1801.03924.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlparse

import torch
from torch import Tensor
from torchvision.models import AlexNet_Weights, SqueezeNet1_1_Weights, VGG16_Weights, WeightsEnum

from t4g_tracker.choices import LpipsBackbone
from t4g_tracker.datatypes import Video
from t4g_tracker.errors import VideoError, WeightsError
from t4g_tracker.weight_loading import loading

SMALLEST_SIDE_PX = 32  # below, AlexNet's last layers have nothing left to look at

BACKBONES: dict[LpipsBackbone, WeightsEnum] = {
    "alex": AlexNet_Weights.DEFAULT,
    "vgg": VGG16_Weights.DEFAULT,
    "squeeze": SqueezeNet1_1_Weights.DEFAULT,
}


def backbone_file(backbone: LpipsBackbone) -> Path:
    """Where PyTorch's cache puts the published weights of a classifier, whether or not they are there."""
    name = Path(urlparse(BACKBONES[backbone].url).path).name
    return Path(torch.hub.get_dir()) / "checkpoints" / name


def find_backbone(backbone: LpipsBackbone) -> Path:
    """Find a classifier's weights on disk; never uses the network.

    Raises:
        WeightsError: If they are missing; the message has no remedy, which depends on the command.
    """
    file = backbone_file(backbone)
    if not file.is_file():
        raise WeightsError(f"{file} is not on disk")
    return file


class Lpips:
    """LPIPS with one classifier, loaded once, for any videos.

    Args:
        backbone: Which classifier.
        device: Where it runs.

    Raises:
        WeightsError: If its weights are missing or cannot be read.
    """

    def __init__(self, backbone: LpipsBackbone, device: torch.device) -> None:
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        file = find_backbone(backbone)
        with loading(f"{file}:", f"delete it and run t4g weights get lpips-{backbone}"):
            torch.load(file, map_location="cpu", weights_only=True)  # torchvision itself would run a pickle
            self.metric = LearnedPerceptualImagePatchSimilarity(net_type=backbone).to(device)
        self.device = device

    def distances(self, video: Video, advance: Callable[[int], None]) -> Tensor:
        """Measure each frame against the next, at the size of the video.

        Args:
            video: T frames.
            advance: Called with how many frames are done.

        Returns:
            (T - 1,) float64 on the CPU, no unit; 0 for equal frames.

        Raises:
            VideoError: If the frames are too small for the classifier.
        """
        if min(video.size) < SMALLEST_SIDE_PX:
            raise VideoError(
                f"{video.source}: has frames of {video.size[1]}x{video.size[0]}, but lpips needs sides of "
                f"{SMALLEST_SIDE_PX} pixels; leave lpips out of --measures"
            )
        found = torch.empty(video.frame_count - 1, dtype=torch.float64)
        before = self._prepared(video, 0)
        with torch.inference_mode():
            for index in range(len(found)):
                after = self._prepared(video, index + 1)
                found[index] = float(self.metric(before, after))
                before = after
                advance(index + 2)
        self.metric.reset()  # it would keep every distance
        return found

    def _prepared(self, video: Video, index: int) -> Tensor:
        """One frame as (1, 3, H, W) in -1..1."""
        frame = torch.from_numpy(video.frames[index]).to(self.device)
        return frame.permute(2, 0, 1)[None].float() / 127.5 - 1
