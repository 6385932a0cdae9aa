"""Draws objectives.svg: how Track4Gen is trained with its refiner, and without.

python docs/objectives.py > docs/objectives.svg

Source: what figure 1 of the supplement of Track4Gen, arXiv:2412.06016, shows; drawn anew.
"""

from __future__ import annotations

import sys
from html import escape

INK, GREY, PAPER = "#1f2430", "#667085", "#ffffff"
TRAINED, FROZEN, TAKEN, LOSS = "#d9e8fb", "#eceef1", "#fde8c8", "#f9d9dc"  # fills
WIDTH, COLUMN, HEIGHT = 980, 480, 688  # pixels of the picture; each column is COLUMN wide
BLOCKS = (  # of the UNet, with their heights: narrow where the grid is coarse
    ("down 0", 92),
    ("down 1", 72),
    ("down 2", 52),
    ("down 3", 36),
    ("mid", 28),
    ("up 0", 36),
    ("up 1", 52),
    ("up 2", 72),
    ("up 3", 92),
)
TAKEN_BLOCK = 7  # index in BLOCKS of up_blocks[2]


def text(x: float, y: float, words: str, size: int = 14, colour: str = INK, more: str = "") -> str:
    """Words centred on x, their baseline at y."""
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{colour}" text-anchor="middle"{more}>'
        f"{escape(words)}</text>"
    )


def box(x: float, y: float, width: float, height: float, fill: str, lines: tuple[str, ...]) -> list[str]:
    """A rounded box centred on (x, y) with lines of text, the first of them bold."""
    left, top = x - width / 2, y - height / 2
    parts = [
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="7" fill="{fill}" '
        f'stroke="{INK}" stroke-width="1.2"/>'
    ]
    first = y + 5 - 9 * (len(lines) - 1)
    for index, line in enumerate(lines):
        size, colour = (14, INK) if index == 0 else (12, GREY)
        more = ' font-weight="600"' if index == 0 else ""
        parts.append(text(x, first + 18 * index, line, size, colour, more))
    return parts


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    """A line through points with a head at its end."""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{INK}" stroke-width="1.5"{dash} '
        'marker-end="url(#head)"/>'
    )


def unet(x: float, y: float) -> tuple[list[str], float]:
    """The UNet's blocks around (x, y), and where the middle of the block is whose output is taken."""
    step, width = 37, 31
    left = x - step * (len(BLOCKS) - 1) / 2
    parts = []
    for index, (name, height) in enumerate(BLOCKS):
        middle = left + step * index
        fill = TAKEN if index == TAKEN_BLOCK else TRAINED
        parts.append(
            f'<rect x="{middle - width / 2:g}" y="{y - height / 2:g}" width="{width}" height="{height}" '
            f'rx="4" fill="{fill}" stroke="{INK}" stroke-width="1.2"/>'
        )
        parts.append(text(middle, y + 62, name, 10, INK if index == TAKEN_BLOCK else GREY))
    return parts, left + step * TAKEN_BLOCK


def column(left: float, refiner: bool) -> list[str]:
    """One of the two trainings, from the video down to its two losses."""
    x = left + COLUMN / 2 - 20
    side = x - 120
    parts = [
        text(x, 34, "Track4Gen" if refiner else "Track4Gen without refiner", 18, INK, ' font-weight="700"'),
        *box(x, 76, 210, 44, FROZEN, ("video", "N frames")),
        arrow((x, 98), (x, 124)),
        *box(x, 148, 210, 46, FROZEN, ("VAE encoder", "latents, then noise of level σ")),
        arrow((x, 171), (x, 199)),
        text(x, 214, "UNet of Stable Video Diffusion", 14, INK, ' font-weight="600"'),
    ]
    blocks, features = unet(x, 272)
    last = features + 37
    parts += blocks
    parts += [
        text(features - 78, 372, "h¹ … hᴺ, 640 channels", 12),
        arrow((last + 15.5, 272), (last + 50, 272), (last + 50, 614), (features + 53, 614)),
    ]
    if refiner:
        parts += [
            arrow((features, 342), (features, 392)),
            *box(features - 10, 420, 176, 54, TRAINED, ("refiner", "8 convolutions, 3 × 3")),
            arrow((features, 447), (features, 497)),
            text(features - 60, 477, "refined ĥ¹ … ĥᴺ", 12),
        ]
    else:
        parts += [arrow((features, 342), (features, 497)), text(features - 60, 425, "no refiner", 12, GREY)]
    taken = "ĥ" if refiner else "h"
    parts += [
        *box(side, 420, 168, 54, FROZEN, ("point trajectories", "flow, or exact if synthetic")),
        arrow((side, 447), (side, 523), (features - 100, 523)),
        *box(features - 10, 524, 176, 52, LOSS, ("correspondence loss", f"matching {taken} finds the point")),
        *box(features - 23, 614, 150, 48, LOSS, ("denoising loss", "latents without noise")),
        text(x, 672, "L = L(denoising) + λ · L(correspondence)", 14),
    ]
    return parts


def picture() -> str:
    """The whole SVG."""
    legend = ((TRAINED, "trained"), (TAKEN, "trained; its output is the features"), (FROZEN, "not trained"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT + 40}" width="{WIDTH}" '
        f'height="{HEIGHT + 40}" font-family="Helvetica, Arial, DejaVu Sans, sans-serif" role="img">',
        "<title>Track4Gen's training with and without refiner</title>",
        "<desc>Left: the output of up-block 2 passes through the refiner, and the correspondence loss is "
        "computed on refined features. Right: it is computed on the output itself. In both, the denoising "
        "loss is computed on the output of the whole UNet.</desc>",
        '<defs><marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 10 5 0 10z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT + 40}" fill="{PAPER}"/>',
        *column(20, True),
        f'<line x1="{WIDTH / 2:g}" y1="20" x2="{WIDTH / 2:g}" y2="{HEIGHT - 10}" stroke="#d0d5dd"/>',
        *column(20 + COLUMN, False),
    ]
    x = 200.0
    for fill, words in legend:
        parts.append(
            f'<rect x="{x:g}" y="{HEIGHT + 6}" width="18" height="14" rx="3" fill="{fill}" stroke="{INK}"/>'
        )
        parts.append(
            text(x + 26, HEIGHT + 18, words, 12, GREY).replace('text-anchor="middle"', 'text-anchor="start"')
        )
        x += 60 + 5.6 * len(words)
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    sys.stdout.write(picture())
