"""One page of paper in inches from its lower left corner, with the head and the foot that every page has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import matplotlib
from matplotlib.artist import Artist
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ft2font import FT2Font
from matplotlib.lines import Line2D

from profile_and_optimize.report.pages.fit import MONO, cut, ems, wrap
from profile_and_optimize.report.pages.model import Report
from profile_and_optimize.report.pdf import style as st
from profile_and_optimize.report.pdf.stamp import utc
from profile_and_optimize.report.words import plain

Points = Sequence[tuple[float, float]]
SYNTHETIC = "SYNTHETIC DATA: made by a formula to show the layout. Nothing here was measured."
# A character that the font lacks, shown as an empty box.
_BOX = "□"


# Where a line's middle and the top of its capitals lie above its baseline, in ems.
UP = {"baseline": 0.0, "center": 0.36, "top": 0.73}
BEFORE = {"left": 0.0, "center": 0.5, "right": 1.0}


@dataclass(frozen=True, slots=True)
class Word:
    """A text and where its baseline begins, in points; `turn` in degrees."""

    x: float
    y: float
    text: str
    font: FontProperties
    colour: str
    turn: float
    alpha: float | None


class Words(Artist):
    """All texts of a page, handed to the renderer as they are: an artist for each takes twice as long."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[Word] = []

    def draw(self, renderer: Any) -> None:
        gc = renderer.new_gc()
        for w in self.words:
            gc.set_alpha(w.alpha)
            gc.set_foreground(w.colour)
            renderer.draw_text(gc, w.x, w.y, w.text, w.font, w.turn)
        gc.restore()


class Sheet:
    def __init__(self) -> None:
        self.figure = Figure(figsize=st.PAGE)
        self._words = Words()
        self._words.set_zorder(10)
        self._add(self._words)

    def text(
        self, x: float, y: float, text: str, size: float, *, colour: str = st.INK, face: str = "Sans",
        across: Literal["left", "center", "right"] = "left", up: Literal["baseline", "center", "top"] = "baseline", turn: float = 0.0,
        alpha: float | None = None,
    ) -> None:  # fmt: skip
        """`face` is Sans, Bold or Mono. The text is never read as mathematics."""
        shown = known(text, face)
        if not shown:
            return
        wide = (len(shown) * MONO if face == "Mono" else ems(shown, bold=face == "Bold")) * size
        back, down, angle = BEFORE[across] * wide, UP[up] * size, math.radians(turn)
        self._words.words.append(Word(
            72 * x - back * math.cos(angle) + down * math.sin(angle), 72 * y - back * math.sin(angle) - down * math.cos(angle), shown,
            font(face, size), colour, turn, alpha,
        ))  # fmt: skip

    def fitted(self, x: float, y: float, text: str, size: float, width: float, **look: Any) -> None:
        """On one line of at most `width` inches, with its middle left out where it is longer."""
        self.text(x, y, cut(text, 72 * width / size, bold=look.get("face") == "Bold"), size, **look)

    def paragraph(
        self, x: float, y: float, text: str, size: float, width: float, *, most: int = 4, **look: Any
    ) -> float:
        """Wrapped lines downwards; the place of the next one. Beyond `most` lines the last one is cut."""
        lines = wrap(text, 72 * width / size, mono=look.get("face") == "Mono")
        if len(lines) > most:
            lines = [*lines[: most - 1], cut(lines[most - 1], 72 * width / size - 2) + " …"]
        for line in lines:
            self.text(x, y, line, size, **look)
            y -= size * 1.36 / 72
        return y

    def lines(self, segments: Sequence[Points], colour: Any, wide: float, **look: Any) -> None:
        if segments:
            self._add(
                LineCollection(segments, colors=colour, linewidths=wide, transform=self.figure.dpi_scale_trans, **look)
            )

    def boxes(
        self, boxes: Sequence[tuple[float, float, float, float]], colours: Sequence[Any], edge: str = "none"
    ) -> None:
        """Filled rectangles (left, bottom, right, top)."""
        if boxes:
            corners = [[(a, b), (c, b), (c, d), (a, d)] for a, b, c, d in boxes]
            self._add(PolyCollection(
                corners, facecolors=colours, edgecolors=edge, linewidths=0.6, transform=self.figure.dpi_scale_trans
            ))  # fmt: skip

    def marks(self, places: Points, **look: Any) -> None:
        xs, ys = [p[0] for p in places], [p[1] for p in places]
        self._add(Line2D(xs, ys, linestyle="", transform=self.figure.dpi_scale_trans, **look))

    def _add(self, artist: Any) -> None:
        self.figure.add_artist(artist, clip=False)


@cache
def font(face: str, size: float) -> FontProperties:
    """The font files that come with matplotlib: one found on the machine could be another version."""
    name = {"Sans": "DejaVuSans.ttf", "Bold": "DejaVuSans-Bold.ttf", "Mono": "DejaVuSansMono.ttf"}[face]
    return FontProperties(fname=str(Path(matplotlib.get_data_path()) / "fonts/ttf" / name), size=size)


@cache
def _characters(face: str) -> frozenset[int]:
    return frozenset(FT2Font(str(font(face, 8.0).get_file())).get_charmap())


def known(text: str, face: str) -> str:
    """Without control and format characters, whatever was handed in, and with a box for what the font lacks."""
    if text.isascii() and text.isprintable():
        return text
    there = _characters(face)
    return "".join(c if ord(c) in there else _BOX for c in plain(text))


def head(sheet: Sheet, report: Report, title: str, lines: Sequence[str]) -> float:
    """Where the page comes from, its title, and what must be known before reading; the height at which its content begins."""
    s = report.stamp
    if s.synthetic:
        sheet.boxes([(0.0, st.PAGE[1] - 0.27, st.PAGE[0], st.PAGE[1])], [st.DRAFT_BG])
        sheet.text(st.PAGE[0] / 2, st.PAGE[1] - 0.18, SYNTHETIC, 8.5, face="Bold", colour=st.DRAFT, across="center")
        sheet.text(
            4.1, 5.4, "SYNTHETIC", 84, face="Bold", colour=st.SOFT, across="center", up="center", turn=52, alpha=0.06
        )
    sheet.fitted(st.LEFT, st.TOP - 0.12, s.kicker, 7.2, st.WIDTH, colour=st.SOFT)
    sheet.fitted(st.LEFT, st.TOP - 0.38, title, _size(title), st.WIDTH, face="Bold")
    y = st.TOP - 0.56
    for line in lines:
        y = sheet.paragraph(st.LEFT, y, line, 7.2, st.WIDTH, most=2, colour=st.SOFT)
    return y


def _size(title: str) -> float:
    """As large as fits on a line, down to a size below which it is rather cut."""
    return max(10.5, min(14.5, 72 * st.WIDTH / ems(title, bold=True)))


def foot(sheet: Sheet, report: Report, number: int, root: str = "") -> None:
    """Campaign, time of the last event, when it was measured, the run's root and its evidence's. All times are UTC."""
    s = report.stamp
    sheet.lines([[(st.LEFT, 0.5), (st.RIGHT, 0.5)]], st.RULE, 0.6)
    window = f"{utc(s.window[0])} to {utc(s.window[1])}" if s.window else "nothing measured"
    sheet.fitted(
        st.LEFT,
        0.385,
        f"campaign={s.campaign}   rendered={utc(s.rendered)}   bench window {window}",
        6.2,
        st.WIDTH,
        colour=st.SOFT,
    )
    sheet.fitted(st.LEFT, 0.285, f"evidence root={s.evidence_root}", 6.2, st.WIDTH - 0.9, colour=st.SOFT)
    if root:
        sheet.fitted(st.LEFT, 0.185, f"root={root}", 6.2, st.WIDTH - 0.9, colour=st.SOFT)
    sheet.text(st.RIGHT, 0.285, f"page {number} of {len(report.pages)}", 6.2, colour=st.SOFT, across="right")
    if s.overlay:
        sheet.fitted(st.LEFT, 0.085, s.overlay, 6.2, st.WIDTH, face="Bold", colour=st.DRAFT)
