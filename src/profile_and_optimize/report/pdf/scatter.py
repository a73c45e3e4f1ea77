"""Draws a page of panes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from profile_and_optimize.report.pages.fit import cut, ems, wrap
from profile_and_optimize.report.pages.model import Axis, Legend, Pane, PaneRow, Report, ScatterPage, Series
from profile_and_optimize.report.pdf import style as st
from profile_and_optimize.report.pdf.sheet import Sheet, head

TALLEST, GAP, LABEL = 2.9, 0.23, 5.4
COLUMNS = ((st.LEFT + 0.5, st.LEFT + 3.5), (st.LEFT + 4.17, st.RIGHT))
Box = tuple[float, float, float, float]
Place = tuple[float, float]
SHAPE_WORDS = {"EP": "EP", "TP": "TP", "unknown": "EP or TP unknown"}
FILL_WORDS = {"full": "filled: no MTP", "hollow": "hollow: MTP or other speculation", "half": "half: MTP unknown"}


@dataclass(frozen=True, slots=True)
class Frame:
    """A pane's place on the paper and its two axes."""

    left: float
    bottom: float
    right: float
    top: float
    x: Axis
    y: Axis

    def at(self, x: float, y: float) -> Place:
        return (
            self.left + part(self.x, x) * (self.right - self.left),
            self.bottom + part(self.y, y) * (self.top - self.bottom),
        )


def part(axis: Axis, value: float) -> float:
    """0 at the low end, 1 at the high end; a value outside is put on the edge."""
    if axis.log:
        share = math.log(max(value, 1e-12) / axis.low) / math.log(axis.high / axis.low)
    else:
        share = (value - axis.low) / (axis.high - axis.low)
    return min(1.0, max(0.0, share))


def draw(sheet: Sheet, page: ScatterPage, report: Report) -> None:
    top = head(sheet, report, page.title, page.lines) - 0.12
    bottom = _foot(sheet, page)
    ends = [_ends(page, i) for i in range(len(page.rows))]
    gap = GAP + (0.12 if any(ends[:-1]) else 0.0)
    height = min(TALLEST, (top - 0.2 - bottom) / max(1, len(page.rows)) - gap)
    for (left, right), words in zip(COLUMNS, page.heads, strict=True):
        sheet.fitted(left, top, words, 8.2, right - left, face="Bold")
    for i, row in enumerate(page.rows):
        y = top - 0.3 - i * (height + gap)
        sheet.fitted(COLUMNS[0][0], y + 0.04, row.head, 6.8, 3.0, colour=st.SOFT, face="Bold")
        for (left, right), pane, axes in zip(
            COLUMNS, (row.left, row.right), (row.left_axes, row.right_axes), strict=True
        ):
            _pane(sheet, Frame(left, y - height, right, y, *axes), pane, ends[i])
    if page.rows:
        _axis_names(sheet, page.rows[-1], top - 0.3, top - 0.3 - len(page.rows) * (height + gap) + gap)


def _ends(page: ScatterPage, i: int) -> bool:
    """Is it the last row with these axes? Only there do they have numbers below."""
    row = page.rows[i]
    following = page.rows[i + 1] if i + 1 < len(page.rows) else None
    return following is None or (row.left_axes[0], row.right_axes[0]) != (
        following.left_axes[0],
        following.right_axes[0],
    )


def _axis_names(sheet: Sheet, row: PaneRow, top: float, low: float) -> None:
    for (left, right), (x, y) in zip(COLUMNS, (row.left_axes, row.right_axes), strict=True):
        sheet.text((left + right) / 2, low - 0.28, x.label, 6.8, across="center", colour=st.SOFT)
        sheet.text(left - 0.38, (top + low) / 2, y.label, 6.8, across="center", colour=st.SOFT, turn=90)


def _foot(sheet: Sheet, page: ScatterPage) -> float:
    """Legend and note at the foot of the page; where the panes may end."""
    y = 0.62
    lines = _note_lines(page.note)
    for i, text in enumerate(lines):
        sheet.text(st.LEFT, y + 0.115 * (len(lines) - 1 - i), text, 6.4, colour=st.SOFT)
    return _legend(sheet, page.legend, y + 0.115 * len(lines) + 0.1) + 0.5


def _note_lines(note: str) -> list[str]:
    return wrap(note, 72 * st.WIDTH / 6.4) if note else []


def _legend(sheet: Sheet, legend: Legend, y: float) -> float:
    """Colours on the upper line, shapes and fills on the lower; its upper edge."""
    lower = [("shape", s, SHAPE_WORDS[s]) for s in legend.shapes] + [("fill", f, FILL_WORDS[f]) for f in legend.fills]
    x = st.LEFT
    for kind, name, words in [
        *lower,
        *([("partial", "", "ring: not every request completed")] if legend.partial else []),
    ]:
        _key(sheet, x + 0.06, y, kind, name)
        sheet.text(x + 0.18, y - 0.03, words, 6.8)
        x += 0.18 + ems(words) * 6.8 / 72 + 0.22
    lines = _hue_lines(legend)
    for i, line in enumerate(lines):
        at = y + 0.17 + 0.16 * (len(lines) - 1 - i)
        for x, hue, words in line:
            sheet.marks([(x + 0.06, at)], marker="s", markersize=5.4, color=st.HUES[hue])
            sheet.text(x + 0.18, at - 0.03, words, 6.8)
    return y + 0.11 + 0.16 * len(lines)


def _hue_lines(legend: Legend) -> list[list[tuple[float, int, str]]]:
    """(place, hue, words) of the colours, as many in a line as fit."""
    lines: list[list[tuple[float, int, str]]] = [[]]
    x, room = st.LEFT, 72 * (st.WIDTH / 2 - 0.3) / 6.8
    for hue, name in legend.hues:
        words = cut(name, room)
        wide = 0.18 + ems(words) * 6.8 / 72
        if lines[-1] and x + wide > st.RIGHT:
            lines.append([])
            x = st.LEFT
        lines[-1].append((x, hue, words))
        x += wide + 0.25
    return lines


def _key(sheet: Sheet, x: float, y: float, kind: str, name: str) -> None:
    if kind == "partial":
        _ring(sheet, [(x, y)])
        return
    shape, fill = (name, "full") if kind == "shape" else ("EP", name)
    _markers(sheet, [(x, y)], st.SOFT, shape, fill)


def _pane(sheet: Sheet, frame: Frame, pane: Pane, last: bool) -> None:
    _grid(sheet, frame, last)
    if pane.note:
        sheet.text(frame.right - 0.03, frame.top + 0.04, pane.note, 5.6, colour=st.SOFT, across="right")
    places = {id(s): [frame.at(d.x, d.y) for d in s.dots] for s in pane.series}
    if pane.bars:
        _bars(sheet, frame, pane.series)
    if pane.lines:
        for s in pane.series:
            sheet.lines([places[id(s)]] if len(s.dots) > 1 else [], st.HUES[s.hue], 0.7, alpha=0.55)
    _ring(sheet, [p for s in pane.series for p, d in zip(places[id(s)], s.dots, strict=True) if d.partial])
    for hue, shape, fill in dict.fromkeys((s.hue, s.shape, s.fill) for s in pane.series):
        same = [p for s in pane.series if (s.hue, s.shape, s.fill) == (hue, shape, fill) for p in places[id(s)]]
        _markers(sheet, same, st.HUES[hue], shape, fill)
    _labels(sheet, frame, pane, places)


def _grid(sheet: Sheet, f: Frame, last: bool) -> None:
    xs = [(f.at(v, f.y.low)[0], words) for v, words in f.x.ticks]
    ys = [(f.at(f.x.low, v)[1], words) for v, words in f.y.ticks]
    sheet.lines(
        [[(x, f.bottom), (x, f.top)] for x, _ in xs] + [[(f.left, y), (f.right, y)] for y, _ in ys], st.FAINT, 0.6
    )
    sheet.lines([[(f.left, f.top), (f.left, f.bottom), (f.right, f.bottom)]], st.SOFT, 0.6)
    for y, words in ys:
        sheet.text(f.left - 0.05, y, words, 6.2, across="right", up="center", colour=st.SOFT)
    for x, words in xs if last else ():
        sheet.text(x, f.bottom - 0.05, words, 6.2, across="center", up="top", colour=st.SOFT)


def _bars(sheet: Sheet, f: Frame, series: Sequence[Series]) -> None:
    for s in series:
        flat = [[f.at(d.x_span[0], d.y), f.at(d.x_span[1], d.y)] for d in s.dots if d.x_span]
        tall = [[f.at(d.x, d.y_span[0]), f.at(d.x, d.y_span[1])] for d in s.dots if d.y_span]
        sheet.lines([*flat, *tall], st.HUES[s.hue], 0.9, alpha=0.8)


def _markers(sheet: Sheet, places: Sequence[Place], colour: str, shape: str, fill: str) -> None:
    marker = st.MARKERS[shape]
    look = {
        "markerfacecolor": colour if fill != "hollow" else st.CARD,
        "fillstyle": "left" if fill == "half" else "full",
    }
    size = st.SIZES[marker]
    sheet.marks(
        places, marker=marker, markersize=size, markeredgecolor=colour, markeredgewidth=0.8, markerfacecoloralt=st.CARD, **look
    )  # fmt: skip


def _ring(sheet: Sheet, places: Sequence[Place]) -> None:
    if places:
        sheet.marks(
            places, marker="o", markersize=8.6, markerfacecolor="none", markeredgecolor=st.INK, markeredgewidth=0.6
        )


def _labels(sheet: Sheet, frame: Frame, pane: Pane, places: dict[int, list[Place]]) -> None:
    """Beside their points where there is room; one that would cover a point or another label is left out."""
    taken = [_around(p) for at in places.values() for p in at]
    for s in pane.series:
        for place, dot in zip(places[id(s)], s.dots, strict=True):
            sides = _sides(place, dot.label, beside=not pane.bars) if dot.label else ()
            box = next((b for b in sides if _free(b, taken, frame)), None)
            if box is not None:
                taken.append(box)
                sheet.text(box[0], box[1] + 0.008, dot.label, LABEL, colour=st.INK)


def _around(p: Place) -> Box:
    return p[0] - 0.03, p[1] - 0.03, p[0] + 0.03, p[1] + 0.03


def _sides(p: Place, label: str, *, beside: bool) -> Iterator[Box]:
    """Boxes of the label around its point: right, above, below and left of it, then on its corners; those first where its
    intervals reach to all four sides."""
    wide, tall = ems(label) * LABEL / 72, 0.072
    straight = ((0.045, -0.03), (-wide / 2, 0.045), (-wide / 2, -0.045 - tall), (-0.045 - wide, -0.03))
    corners = ((0.03, 0.03), (0.03, -0.03 - tall), (-0.03 - wide, 0.03), (-0.03 - wide, -0.03 - tall))
    for dx, dy in (*straight, *corners) if beside else (*corners, *straight):
        yield p[0] + dx, p[1] + dy, p[0] + dx + wide, p[1] + dy + tall


def _free(box: Box, taken: Sequence[Box], f: Frame) -> bool:
    inside = f.left < box[0] and box[2] < f.right + 0.15 and f.bottom < box[1] and box[3] < f.top + 0.05
    return inside and not any(a < box[2] and box[0] < c and b < box[3] and box[1] < d for a, b, c, d in taken)
