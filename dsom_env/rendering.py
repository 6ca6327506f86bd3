"""A taught query as text (`ansi`) or as a picture (`rgb_array`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from graphs import MultimodalGraph

if TYPE_CHECKING:
    from dsom_env.lessons import Scene

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

WIDTH, HEIGHT = 640, 400
_INK, _SOFT, _PAPER, _LINE = (27, 31, 36), (87, 96, 106), (255, 255, 255), (216, 222, 228)
# Blue and orange are told apart without red–green vision.
_CHOSEN, _RIGHT = (0, 114, 178), (213, 94, 0)


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _ranks(scene: Scene) -> str:
    if scene.rank_before is None or scene.rank_after is None:
        return "no choice has been made yet"
    reward = "" if scene.reward is None else f", reward {scene.reward:.4f}"
    tempering = "" if scene.tempering is None else f", soft label tempered by {scene.tempering:.2f}"
    return f"student's rank {scene.rank_before:g} → {scene.rank_after:g}{reward}{tempering}"


def render_ansi(graph: MultimodalGraph, teachers: tuple[str, ...], scene: Scene) -> str:
    """The query, each teacher's top answers, the mask, the student's rank before and after.

    Args:
        graph: gives the names.
        teachers: names, in the order of the mask.
        scene: what was taught.
    """
    labels = graph.entity_labels
    width = max(len(name) for name in teachers)
    lines = [
        f"({labels[scene.entity]}, {graph.relation_label(scene.relation)}, ?)  →  "
        f"{labels[scene.answer]}"
    ]
    for name, chosen, answers in zip(teachers, scene.mask, scene.answers, strict=True):
        tops = ", ".join(
            f"{labels[entity]}{'*' if entity == scene.answer else ''} {probability:.2f}"
            for entity, probability in answers
        )
        lines.append(f"  [{'x' if chosen else ' '}] {name:{width}}  {tops}")
    return "\n".join([*lines, f"  {_ranks(scene)}"])


def render_rgb(
    graph: MultimodalGraph, teachers: tuple[str, ...], scene: Scene
) -> NDArray[np.uint8]:
    """The same as a picture, with the thumbnail of the query's entity where it has one.

    Args:
        graph: gives names and thumbnails.
        teachers: names, in the order of the mask; the first eight are drawn.
        scene: what was taught.

    Returns:
        uint8 `[400, 640, 3]`, whatever the graph.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), _PAPER)
    draw = ImageDraw.Draw(picture)
    large, normal, small = (_font(size) for size in (20, 15, 12))
    labels = graph.entity_labels
    thumbnail = _thumbnail(graph, scene.entity)
    left = 20
    if thumbnail is not None:
        picture.paste(thumbnail, (20, 16))
        left = 110
    relation = graph.relation_label(scene.relation).replace("⁻¹", " (inverse)")
    draw.text((left, 18), _drawable(_shortened(labels[scene.entity], 44)), _INK, large)
    draw.text((left, 44), _drawable(_shortened(relation, 50)), _SOFT, normal)
    draw.text((left, 66), _drawable(_shortened(labels[scene.answer], 44)), _RIGHT, large)
    shown = min(len(teachers), 8)
    step = min((HEIGHT - 160) // max(shown, 1), 60)
    for index in range(shown):
        _draw_teacher(draw, 108 + index * step, teachers, scene, index, labels, (normal, small))
    draw.line((20, HEIGHT - 42, WIDTH - 20, HEIGHT - 42), _LINE)
    draw.text((20, HEIGHT - 33), _drawable(_ranks(scene)), _INK, normal)
    return np.asarray(picture, dtype=np.uint8).copy()


def _draw_teacher(
    draw: ImageDraw.ImageDraw,
    top: int,
    teachers: tuple[str, ...],
    scene: Scene,
    index: int,
    labels: tuple[str, ...],
    fonts: tuple[Font, Font],
) -> None:
    """One row: a box (filled if chosen), the name, and the top answers with bars."""
    normal, small = fonts
    chosen = bool(scene.mask[index])
    draw.rectangle((20, top + 2, 34, top + 16), _CHOSEN if chosen else _PAPER, _CHOSEN, 2)
    name = _drawable(_shortened(teachers[index], 12))
    draw.text((42, top), name, _INK if chosen else _SOFT, normal)
    for place, (entity, probability) in enumerate(scene.answers[index][:3]):
        x = 150 + place * 160
        colour = _RIGHT if entity == scene.answer else _SOFT
        draw.text((x, top), _drawable(_shortened(labels[entity], 22)), colour, small)
        draw.rectangle((x, top + 17, x + 140, top + 22), (235, 238, 241))
        if probability * 140 >= 1:
            draw.rectangle((x, top + 17, x + round(140 * min(probability, 1)), top + 22), colour)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _drawable(text: str) -> str:
    """Text that the built-in font can draw: it has Latin letters and a few signs only."""
    return "".join(char if ord(char) < 0x250 or char in "…→" else "?" for char in text).replace(
        "→", "to"
    )


def _thumbnail(graph: MultimodalGraph, entity: int) -> Image.Image | None:
    if graph.thumbnails is None or graph.thumbnail_entities is None:
        return None
    row = int(np.searchsorted(graph.thumbnail_entities, entity))
    if row == len(graph.thumbnail_entities) or graph.thumbnail_entities[row] != entity:
        return None
    return Image.fromarray(graph.thumbnails[row]).resize((76, 76), Image.Resampling.NEAREST)
