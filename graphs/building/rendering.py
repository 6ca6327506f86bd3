"""Pictures of emoji from their SVG files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from graphs.building.sources import BuildError

PICTURE_SIZE = 224
"""Pixels per side of what the image encoder sees."""


def render(folder: Path, hexcodes: Sequence[str]) -> NDArray[np.uint8]:
    """Render emoji on white.

    Args:
        folder: of the SVG files, named by hexcode.
        hexcodes: which to render.

    Returns:
        uint8 `[n, 224, 224, 3]`.

    Raises:
        BuildError: there is no picture of an emoji.
    """
    import resvg_py  # an extra, so imported only by who builds

    pictures = np.empty((len(hexcodes), PICTURE_SIZE, PICTURE_SIZE, 3), dtype=np.uint8)
    for row, hexcode in enumerate(hexcodes):
        path = folder / f"{hexcode}.svg"
        if not path.is_file():
            raise BuildError(f"there is no picture {path.name} in {folder}.")
        # Fonts of this machine must not get into the picture.
        png = resvg_py.svg_to_bytes(
            svg_string=path.read_text(encoding="utf-8"),
            width=PICTURE_SIZE,
            height=PICTURE_SIZE,
            skip_system_fonts=True,
        )
        with Image.open(io.BytesIO(png)) as drawn:
            drawing = drawn.convert("RGBA")
        white = Image.new("RGBA", drawing.size, "white")
        flat = Image.alpha_composite(white, drawing).convert("RGB")
        if flat.size != (PICTURE_SIZE, PICTURE_SIZE):
            flat = flat.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
        pictures[row] = np.asarray(flat)
    return pictures


def thumbnails(pictures: NDArray[np.uint8], size: int, levels: int) -> NDArray[np.uint8]:
    """Small versions of pictures with few levels per colour, which compress well.

    Args:
        pictures: uint8 `[n, height, width, 3]`.
        size: pixels per side.
        levels: how many values a channel may have, black and full included.

    Returns:
        uint8 `[n, size, size, 3]`.
    """
    small = np.empty((len(pictures), size, size, 3), dtype=np.uint8)
    for row, picture in enumerate(pictures):
        resized = Image.fromarray(picture).resize((size, size), Image.Resampling.BOX)
        small[row] = np.asarray(resized)
    steps = np.rint(small.astype(np.float32) / 255 * (levels - 1))
    return np.rint(steps * 255 / (levels - 1)).astype(np.uint8)
