"""Pictures of up to 16 bits become frames of 8, all of a video by one rule."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from t4g_tracker.errors import VideoError, warn
from t4g_tracker.storage.long_arrays import LongArrays

_RANGES = (8, 10, 12, 14, 16)  # bits that cameras give
_DARK = 16  # of 255: as bright as 12 bits are in 16
_FEWEST_BRIGHT = 1e-3  # share of values above; with less, a few hot pixels may be all


class EightBitFrames:
    """Frames of 8 bits, from pictures of 8 or of up to 16.

    Of deep pictures, all lose as many low bits as the largest value of all demands, so that a camera's 12
    bits, stored in 16, do not become black. All are those of the whole folder or file, whatever part is
    read, so that a frame always has the same pixels. When a larger value comes, earlier frames lose further
    bits: dropping some and then others is dropping both, so that no deep picture has to be kept.
    """

    def __init__(self, arrays: LongArrays | None = None) -> None:
        self._arrays = arrays  # where they are held; None for memory
        self.pictures: list[np.ndarray] = []  # (H, W, 3) uint8
        self._deep: list[int] = []  # which of them had more bits
        self._largest = 0  # value of a deep one

    def add(self, picture: np.ndarray) -> None:
        """Append a picture (H, W, 3) of uint8 or uint16."""
        if picture.dtype == np.uint16:
            self._allow_for(picture)
            self._deep.append(len(self.pictures))
            picture = (picture >> (self._bits() - 8)).astype(np.uint8)
        self.pictures.append(picture if self._arrays is None else self._arrays.held(picture))

    def _allow_for(self, picture: np.ndarray) -> None:
        """Let the deep frames lose as many bits as a picture (H, W, 3) of uint16 demands."""
        before = self._bits()
        self._largest = max(self._largest, int(picture.max()))
        for index in self._deep:
            self.pictures[index] >>= self._bits() - before

    def finished(self, path: Path, others: Iterable[np.ndarray]) -> list[np.ndarray]:
        """Hand over all frames; warn if values of 16 bits were taken for fewer.

        Args:
            path: Begins the messages.
            others: The pictures before and after the frames; looked at only as long as they matter.

        Raises:
            VideoError: If it cannot be told how bright these are beside pictures of 8 bits.
        """
        others = iter(others)
        while self._deep and self._bits() < 16 and (picture := next(others, None)) is not None:
            if picture.dtype == np.uint16:
                self._allow_for(picture)
        if self._deep and self._bits() < 16:
            shallow = (each for index, each in enumerate(self.pictures) if index not in self._deep)
            if any(picture.any() for picture in shallow):  # black is black in any range
                raise VideoError(f"{path}: holds pictures of 8 and of 16 bits; save all with 8 bits")
            warn(
                f"{path}: the largest value of its 16-bit pictures is {self._largest}, so they are read as "
                f"{self._bits()}-bit ones; save them with 8 bits if that is too bright"
            )
        elif self._deep and self._share_bright() < _FEWEST_BRIGHT:
            warn(
                f"{path}: nearly all values of its 16-bit pictures are below {_DARK << 8}, so its frames are "
                "nearly black; if single pixels are brighter than its camera can tell, save it with 8 bits"
            )
        return self.pictures

    def _share_bright(self) -> float:
        """Share of the values of deep pictures that are not nearly black."""
        return float(np.mean([(self.pictures[index] >= _DARK).mean() for index in self._deep]))

    def _bits(self) -> int:
        return next(bits for bits in _RANGES if self._largest < 2**bits)
