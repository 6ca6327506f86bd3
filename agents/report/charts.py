"""Charts of the report page as inline SVG. Colours are CSS variables, so that dark mode works."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

# Okabe and Ito's colours, distinguishable without red–green vision; then dashes tell lines apart.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#a6611a")
DASHES = ("", "6 3", "2 3")
NARROW = 440


def style_of(index: int) -> tuple[str, str]:
    """Colour and dash pattern of the line number `index`."""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS) % len(DASHES)]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    step = (high - low) / count
    for nice in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5):
        if step <= nice:
            step = nice
            break
    first = int(low / step) + (low > 0)
    return [step * (first + i) for i in range(count + 2) if step * (first + i) <= high + 1e-9]


def interval_chart(
    rows: Sequence[tuple[str, float, float, float]],
    label: str,
    notes: Sequence[str] = (),
    band: tuple[float, float] | None = None,
) -> str:
    """Dots with intervals, one line per row.

    Args:
        rows: (name, value, low, high), in the order to show.
        label: of the axis.
        notes: what stands behind each row; the value where there are none.
        band: a range of the axis that is shaded, ends included.
    """
    notes = notes or [f"{row[1]:.4f}" for row in rows]
    ends = [value for row in rows for value in row[1:]] + list(band or ())
    low, high = min(ends), max(ends)
    pad = max((high - low) * 0.08, 1e-3)
    low, high = low - pad, high + pad
    line = 26
    # Room for the longest name and the longest note, at their widest; narrow where these are
    # short, since a phone shrinks a wide chart until nobody can read it.
    left = max([60.0, *(20 + 8 * len(row[0]) for row in rows)])
    right = 18 + 7.2 * max(map(len, notes))
    width = round(max(NARROW, left + right + 180))
    height = line * len(rows) + 40

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (width - left - right)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)} by agent">'
    ]
    if band:
        parts.append(
            f'<rect x="{x(band[0]):.1f}" width="{x(band[1]) - x(band[0]):.1f}" y="4" '
            f'height="{height - 32}" class="band"/>'
        )
    for tick in _ticks(low, high, 4):
        parts.append(
            f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="8" y2="{height - 28}" class="grid"/>'
            f'<text x="{x(tick):.1f}" y="{height - 12}" class="tick" text-anchor="middle">'
            f"{tick:.3f}</text>"
        )
    for index, ((name, value, start, end), note) in enumerate(zip(rows, notes, strict=True)):
        y = 20 + index * line
        parts.append(
            f'<text x="{left - 10}" y="{y + 5}" text-anchor="end">{escape(name)}</text>'
            f'<line x1="{x(start):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" class="bar"/>'
            f'<circle cx="{x(value):.1f}" cy="{y}" r="5" class="dot"/>'
            f'<text x="{x(end) + 8:.1f}" y="{y + 5}" class="tick">{escape(note)}</text>'
        )
    return "".join([*parts, "</svg>"])


def curve_chart(
    curves: Mapping[str, tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]],
    label: str,
    bounds: tuple[float, float] | None = None,
    order: Sequence[str] = (),
    axis: str = "epoch",
) -> str:
    """Lines with bands and a legend.

    Args:
        curves: per name (x, mean, lowest, highest).
        label: of the vertical axis.
        bounds: of the vertical axis; None for those of the values.
        order: names that keep their place in the order of colours, shown or not.
        axis: what the horizontal one shows; it has fractions unless it counts whole things.
    """
    order = order or list(curves)
    values = [v for _, _, low, high in curves.values() for v in (*low, *high)]
    epochs = [e for xs, *_ in curves.values() for e in xs]
    low, high = bounds or (min(values), max(values))
    pad = max((high - low) * 0.05, 1e-3)
    low, high = low - pad, high + pad
    counts = all(isinstance(epoch, int) for epoch in epochs)
    first, last = min(epochs), max(epochs)
    if first == last:
        last = first + 1
    left, width, height = 52, NARROW, 270

    def x(value: float) -> float:
        return left + (value - first) / (last - first) * (width - left - 12)

    def y(value: float) -> float:
        return 10 + (high - value) / (high - low) * (height - 48)

    parts = [
        f'<svg viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)} by {escape(axis)}">'
    ]
    for tick in _ticks(low, high):
        parts.append(
            f'<line x1="{left}" x2="{width - 12}" y1="{y(tick):.1f}" y2="{y(tick):.1f}" '
            f'class="grid"/><text x="{left - 6}" y="{y(tick) + 4:.1f}" class="tick" '
            f'text-anchor="end">{tick:.2f}</text>'
        )
    for tick in sorted({first, last, (first + last) // 2}) if counts else _ticks(first, last, 4):
        parts.append(
            f'<text x="{x(tick):.1f}" y="{height - 17}" class="tick" text-anchor="middle">'
            f"{tick:g}</text>"
        )
    parts.append(
        f'<text x="{width / 2}" y="{height - 2}" class="tick" text-anchor="middle">'
        f"{escape(axis)}</text>"
    )
    legend = []
    for name, (xs, mean, bottom, top) in curves.items():
        colour, dash = style_of(order.index(name))
        edge = [(x(e), y(v)) for e, v in zip(xs, top, strict=True)]
        edge += [(x(e), y(v)) for e, v in reversed(list(zip(xs, bottom, strict=True)))]
        line = [(x(e), y(v)) for e, v in zip(xs, mean, strict=True)]
        parts.append(
            f'<polygon points="{_points(edge)}" fill="{colour}" opacity="0.13"/>'
            f'<polyline points="{_points(line)}" fill="none" stroke="{colour}" stroke-width="2" '
            f'stroke-dasharray="{dash}"><title>{escape(name)}</title></polyline>'
        )
        legend.append(
            f'<span class="key"><svg viewBox="0 0 28 10" width="28" height="10" aria-hidden="true">'
            f'<line x1="0" x2="28" y1="5" y2="5" stroke="{colour}" stroke-width="3" '
            f'stroke-dasharray="{dash}"/></svg>{escape(name)}</span>'
        )
    return "".join([*parts, "</svg>", '<p class="legend">', *legend, "</p>"])


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)


def heat_table(
    rows: Mapping[str, Mapping[str, float]],
    columns: Sequence[str],
    what: str,
    corner: str = "relation",
    counts: Mapping[str, int] | None = None,
) -> str:
    """Shares from 0 to 1 as a table whose cells are shaded; the number stands in each cell.

    Args:
        rows: per row name a share per column.
        columns: names of the columns.
        what: caption.
        corner: what the rows are.
        counts: per row name the number of queries behind it, shown beside it.
    """
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    head += '<th scope="col">queries</th>' if counts else ""
    body = []
    for name, shares in rows.items():
        cells = []
        for column in columns:
            share = shares.get(column, 0.0)
            cells.append(f'<td class="heat" style="--share:{share:.3f}">{share:.2f}</td>')
        cells += [f"<td>{counts[name]:,}</td>"] if counts else []
        body.append(f'<tr><th scope="row">{escape(name)}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="wide tall"><table class="heats"><caption>{escape(what)}</caption>'
        f'<thead><tr><th scope="col">{escape(corner)}</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
