"""Write the bundled example: ``python assets/koi_scene/make.py assets/``.

The clip, its query points and its exact tracks: koi.mp4, koi.queries.json, koi.tracks.npz.
"""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from string import ascii_lowercase

import torch
from torch import Tensor

from scene import koi_pond, layer_name
from t4g_tracker.commands.guarded import guarded
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.outputs.track_files import write_tracks_npz
from t4g_tracker.storage.files import atomic_write, prepare_output_folder
from t4g_tracker.synthetic.layers import sample
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, top_layer, tracks
from t4g_tracker.visualize.encoding import write_video

SEED = 4
FPS = 16.0
QUALITY = 15
POINTS = {  # frame: how many query points it has on the bed, on each fish, on each leaf
    0: {"bed": 14, "koi": 4, "lily": 2},
    14: {"bed": 1, "koi": 1, "lily": 0},
    30: {"bed": 1, "koi": 1, "lily": 0},
}
CANDIDATES = 4000  # positions sampled in each of these frames, from which query points are chosen
BORDER_PX = 8.0  # candidates are at least this far from the frame's border
APART_PX = {"bed": 55.0, "koi": 20.0, "lily": 25.0}
CLEARANCE_PX = 3.0  # and from outlines, where a point could belong to either of two layers
SEEN_FRAMES = 10  # every query point is visible in at least this many frames

log = logging.getLogger(__name__)


def make_example(folder: Path) -> None:
    """Write the example's three files to ``folder``.

    Raises:
        OutputError: If the folder or a file cannot be written.
    """
    prepare_output_folder(folder)
    scene = koi_pond(torch.Generator().manual_seed(SEED))
    queries, exact = choose_queries(scene)
    write_queries(folder / "koi.queries.json", queries)
    write_tracks_npz(folder / "koi.tracks.npz", exact, queries, scene.size, FPS)
    log.info("rendering %d frames; this takes a minute or two", scene.frame_count)
    frames = render(scene, torch.Generator().manual_seed(SEED), pairs=4)
    pictures = (frames.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    write_video(folder / "koi.mp4", pictures, FPS, QUALITY)


def choose_queries(scene: Scene) -> tuple[QueryPoints, Tracks]:
    """Choose points on everything that moves, and some on the bed.

    Returns:
        Query points at whole hundredths of a pixel, named after their layer, and their
        exact tracks.
    """
    chosen = [_choose_in_frame(scene, frame) for frame in POINTS]
    frame, xy, layer = (torch.cat(values) for values in zip(*chosen, strict=True))
    names = []
    count = [0] * len(scene.layers)
    for number in layer.tolist():
        names.append(f"{layer_name(number)}-{ascii_lowercase[count[number]]}")
        count[number] += 1
    return QueryPoints(frame, xy, tuple(names)), tracks(scene, frame, xy)


def write_queries(path: Path, queries: QueryPoints) -> None:
    """Write query points as JSON, one a line, so that a person can read and change them."""
    positions = queries.xy.double().round(decimals=2).tolist()
    lines = [
        json.dumps({"frame": frame, "x": x, "y": y, "name": name})
        for frame, (x, y), name in zip(queries.frame.tolist(), positions, queries.names, strict=True)
    ]
    rows = ",\n".join(f"    {line}" for line in lines)
    with atomic_write(path) as temporary:
        temporary.write_text(f'{{\n  "queries": [\n{rows}\n  ]\n}}\n', encoding="utf-8")


def _choose_in_frame(scene: Scene, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    """Choose points spread over one frame: frame (N,), position (N, 2) and layer (N,)."""
    xy = _sample_positions(scene, frame)
    layer, canonical = top_layer(scene, frame, xy)
    margins = torch.stack([sample(sheet.texture[3:], canonical)[0] for sheet in scene.layers])
    clear = margins.gather(0, layer[None])[0] > CLEARANCE_PX
    seen_frames = tracks(scene, torch.full_like(layer, frame), xy).visibility.sum(dim=1)
    taken: dict[int, list[int]] = {number: [] for number in range(len(scene.layers))}
    for index in (clear & (seen_frames >= SEEN_FRAMES)).nonzero()[:, 0].tolist():
        number = int(layer[index])
        kind = layer_name(number).partition("-")[0]
        distance = (xy[taken[number]] - xy[index]).norm(dim=-1)
        if len(distance) < POINTS[frame][kind] and bool((distance >= APART_PX[kind]).all()):
            taken[number].append(index)
    rows = torch.tensor([index for indices in taken.values() for index in indices])
    return torch.full_like(rows, frame), xy[rows], layer[rows]


def _sample_positions(scene: Scene, frame: int) -> Tensor:
    """Sample (CANDIDATES, 2) positions at whole hundredths of a pixel, the same in every run."""
    height, width = scene.size
    extent = torch.tensor([width - 1 - 2 * BORDER_PX, height - 1 - 2 * BORDER_PX])
    generator = torch.Generator().manual_seed(SEED + frame)
    xy = torch.rand(CANDIDATES, 2, generator=generator) * extent + BORDER_PX
    return (xy * 100).round() / 100


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python assets/koi_scene/make.py", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the example")
    make_example(parser.parse_args(argv).folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
