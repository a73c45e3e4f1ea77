"""Draws a page of tables."""

from __future__ import annotations

from profile_and_optimize.report.pages.fit import wrap
from profile_and_optimize.report.pages.model import HeatCell, HeatPage, HeatTable, Report
from profile_and_optimize.report.pdf import style as st
from profile_and_optimize.report.pdf.sheet import Sheet, head

NAME, WIDE_NAME, APART, TALLEST, TWO_LINES, WIDEST, LEAST_WIDE = 1.4, 2.3, 0.22, 0.32, 0.2, 0.75, 2.3


def draw(sheet: Sheet, page: HeatPage, report: Report) -> None:
    top = head(sheet, report, page.title, page.lines) - 0.1
    note = wrap(page.note, 72 * st.WIDTH / 6.4)
    for i, text in enumerate(note):
        sheet.text(st.LEFT, 0.62 + 0.115 * (len(note) - 1 - i), text, 6.4, colour=st.SOFT)
    bottom = 0.62 + 0.115 * len(note) + 0.1
    rows = max(1, len(page.pairs[0][0].cells))
    band = (top - bottom) / len(page.pairs)
    height = min(TALLEST, (band - 0.48) / rows)
    for i, pair in enumerate(page.pairs):
        _pair(sheet, pair, top - i * min(band, 0.62 + height * rows), height)


def _pair(sheet: Sheet, pair: tuple[HeatTable, ...], y: float, height: float) -> None:
    """Side by side; names take their place once where the right table is named by the left one."""
    half = (st.WIDTH - APART) / 2
    name = NAME if pair[-1].rows else WIDE_NAME
    room = half - NAME if pair[-1].rows else (st.WIDTH - APART - WIDE_NAME) / 2
    column = min(WIDEST, room / max(1, len(pair[0].columns)))
    x = st.LEFT
    for table in pair:
        first = name if table.rows else 0.0
        _table(sheet, table, x, y, first, column, height)
        x += half + APART if pair[-1].rows else first + max(LEAST_WIDE, column * len(table.columns)) + APART


def _table(sheet: Sheet, t: HeatTable, left: float, top: float, name: float, column: float, height: float) -> None:
    x0, two = left + name, any("\n" in words for words in t.columns)
    sheet.fitted(
        left if t.rows and name < WIDE_NAME else x0,
        top - 0.1,
        t.title,
        8.0,
        max(2.2, column * len(t.columns)),
        face="Bold",
    )
    for j, words in enumerate(t.columns):
        for k, line in enumerate(words.split("\n")):
            sheet.fitted(
                x0 + (j + 0.5) * column, top - 0.26 - 0.1 * k, line, 6.4, column - 0.03, across="center", colour=st.SOFT
            )
    first = top - (0.41 if two else 0.31)
    boxes, colours = [], []
    for i, row in enumerate(t.cells):
        y = first - i * height
        if t.rows:
            _name(sheet, t.rows[i], left, y, name, height)
        for j, cell in enumerate(row):
            if cell.state != "elsewhere":
                boxes.append((x0 + j * column, y - height, x0 + (j + 1) * column, y))
                colours.append(st.GRAY if cell.shade is None else st.shade(cell.shade))
                _cell(sheet, cell, x0 + (j + 0.5) * column, y - height / 2, column, height)
    sheet.boxes(boxes, colours, edge=st.PAPER)


def _name(sheet: Sheet, names: tuple[str, str], left: float, y: float, wide: float, height: float) -> None:
    main, below = names
    if below and height >= TWO_LINES:
        sheet.fitted(left, y - height / 2 + 0.02, main, 6.6, wide - 0.06)
        sheet.fitted(left, y - height / 2 - 0.08, below, 5.4, wide - 0.06, colour=st.SOFT)
        return
    sheet.fitted(left, y - height / 2, main, min(6.8, height * 46), wide - 0.06, up="center")


def _cell(sheet: Sheet, cell: HeatCell, x: float, y: float, wide: float, height: float) -> None:
    colour = st.SOFT if cell.shade is None else "#ffffff" if cell.shade >= st.WHITE_FROM else st.INK
    size = min(7.0 if cell.shade is not None or cell.sub else 6.0, height * 46)
    if cell.sub and height >= TWO_LINES:
        sheet.fitted(x, y + 0.012, cell.text, size, wide, across="center", colour=colour)
        sheet.fitted(x, y - 0.085, cell.sub, 5.3, wide, across="center", colour=colour)
        return
    sheet.fitted(x, y, cell.text, size, wide, across="center", up="center", colour=colour)
