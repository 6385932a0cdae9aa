"""Write the bundled example: ``python -m t4g_tracker.synthetic.make_demo assets/``.

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

from t4g_tracker.commands.guarded import guarded
from t4g_tracker.datatypes import QueryPoints, Tracks
from t4g_tracker.files import atomic_write, prepare_output_folder
from t4g_tracker.synthetic.koi import koi_pond, layer_name
from t4g_tracker.synthetic.layers import sample
from t4g_tracker.synthetic.rendering import render
from t4g_tracker.synthetic.scene import Scene, top_layer, tracks
from t4g_tracker.track_files import write_tracks_npz
from t4g_tracker.visualize.files import write_video

SEED = 4
FPS = 16.0
QUALITY = 15
POINTS = {  # frame: how many query points it gives to the bed, to each fish, to each leaf
    0: {"bed": 14, "koi": 4, "lily": 2},
    14: {"bed": 1, "koi": 1, "lily": 0},
    30: {"bed": 1, "koi": 1, "lily": 0},
}
APART_PX = {"bed": 55.0, "koi": 20.0, "lily": 25.0}
CLEARANCE_PX = 3.0  # query points keep this far from outlines, where nobody could say what they mark
SEEN_FRAMES = 10  # and are seen in at least so many

log = logging.getLogger(__name__)


def make_demo(folder: Path) -> None:
    """Write the example's three files to ``folder``.

    Raises:
        OutputError: If the folder or a file cannot be written.
    """
    prepare_output_folder(folder)
    scene = koi_pond(torch.Generator().manual_seed(SEED))
    queries, exact = choose_queries(scene)
    rows = [
        {"frame": frame, "x": x, "y": y, "name": name}
        for frame, (x, y), name in zip(
            queries.frame.tolist(), queries.xy.double().round(decimals=2).tolist(), queries.names, strict=True
        )
    ]
    with atomic_write(folder / "koi.queries.json") as path:
        lines = ",\n".join(f"    {json.dumps(row)}" for row in rows)
        path.write_text(f'{{\n  "queries": [\n{lines}\n  ]\n}}\n', encoding="utf-8")
    write_tracks_npz(folder / "koi.tracks.npz", exact, queries, scene.size, FPS)
    log.info("drawing %d frames; this takes a minute or two", scene.frame_count)
    frames = render(scene, torch.Generator().manual_seed(SEED), pairs=4)
    pictures = (frames.movedim(1, -1) * 255).round().to(torch.uint8).numpy()
    write_video(folder / "koi.mp4", pictures, FPS, QUALITY)


def choose_queries(scene: Scene) -> tuple[QueryPoints, Tracks]:
    """Pick points on everything that moves, and some on the bed.

    Returns:
        Query points at whole hundredths of a pixel, named after their layer, and their
        exact tracks.
    """
    chosen = [_candidates(scene, frame) for frame in POINTS]
    frame, xy, layer = (torch.cat(values) for values in zip(*chosen, strict=True))
    names, count = [], [0] * len(scene.layers)
    for number in layer.tolist():
        names.append(f"{layer_name(number)}-{ascii_lowercase[count[number]]}")
        count[number] += 1
    return QueryPoints(frame, xy, tuple(names)), tracks(scene, frame, xy)


def _candidates(scene: Scene, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frame (N,), position (N, 2) and layer (N,) of points spread over what a frame shows."""
    height, width = scene.size
    generator = torch.Generator().manual_seed(SEED + frame)
    drawn = torch.rand(4000, 2, generator=generator) * torch.tensor([width - 17.0, height - 17.0]) + 8
    xy = (drawn * 100).round() / 100
    layer, canonical = top_layer(scene, frame, xy)
    margins = torch.stack([sample(sheet.texture[3:], canonical)[0] for sheet in scene.layers])
    clear = margins.gather(0, layer[None])[0] > CLEARANCE_PX
    steady = tracks(scene, torch.full_like(layer, frame), xy).visibility.sum(dim=1) >= SEEN_FRAMES
    taken: dict[int, list[int]] = {number: [] for number in range(len(scene.layers))}
    for index in (clear & steady).nonzero()[:, 0].tolist():
        number = int(layer[index])
        kind = layer_name(number).partition("-")[0]
        same = xy[taken[number]]
        if len(same) < POINTS[frame][kind] and bool(
            ((same - xy[index]).norm(dim=-1) >= APART_PX[kind]).all()
        ):
            taken[number].append(index)
    rows = torch.tensor([index for indices in taken.values() for index in indices])
    return torch.full_like(rows, frame), xy[rows], layer[rows]


def main(argv: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    return guarded(_main, argv)


def _main(argv: list[str] | None) -> int:
    parser = argparse.ArgumentParser(prog="python -m t4g_tracker.synthetic.make_demo", description=__doc__)
    parser.add_argument("folder", type=Path, help="where to write the example")
    make_demo(parser.parse_args(argv).folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
