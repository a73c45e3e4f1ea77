"""Draws the champion page."""

from __future__ import annotations

from profile_and_optimize.report.pages.fit import ems, wrap
from profile_and_optimize.report.pages.model import ChampionPage, ChampionRow, Report
from profile_and_optimize.report.pdf import style as st
from profile_and_optimize.report.pdf.scatter import part
from profile_and_optimize.report.pdf.sheet import Sheet, head

TALLEST, NAME, PLOT = 0.46, 2.1, 2.4
SHAPES = {"BETTER": "^", "WORSE": "v", "SAME": "s", "PASSES": "D", "VETO": "D"}
MOST_GATES, COMMAND_LINES = 12, 9


def draw(sheet: Sheet, page: ChampionPage, report: Report) -> None:
    y = head(sheet, report, page.title, ()) + 0.02
    y = _decision(sheet, page, y)
    y = _arms(sheet, page, y - 0.1)
    y = _command(sheet, page, y - 0.12)
    y = _facts(sheet, page, y - 0.14)
    _gates(sheet, page, y - 0.1)


def _decision(sheet: Sheet, page: ChampionPage, y: float) -> float:
    y = sheet.paragraph(st.LEFT, y - 0.02, page.sentence, 9.0, st.WIDTH, most=3)
    colour, ground = (st.VERDICT, st.VERDICT_BG) if page.tier == "VERDICT" else (st.DRAFT, st.DRAFT_BG)
    wide = ems(page.tier, bold=True) * 8.5 / 72 + 0.1
    sheet.boxes([(st.LEFT, y - 0.12, st.LEFT + wide, y + 0.08)], [ground], edge=colour)
    sheet.text(st.LEFT + wide / 2, y - 0.065, page.tier, 8.5, face="Bold", colour=colour, across="center")
    lines = wrap(
        f"Recommended: {page.pick}. {page.caveat[:1].upper()}{page.caveat[1:]}.", 72 * (st.WIDTH - wide - 0.12) / 8.2
    )
    for i, text in enumerate(lines[:2]):
        sheet.text(st.LEFT + wide + 0.12, y - 0.065 - i * 0.16, text, 8.2)
    y -= 0.28 + 0.16 * (min(2, len(lines)) - 1)
    return sheet.paragraph(
        st.LEFT, y, f"Every arm against the baseline: {page.endpoint}.", 7.2, st.WIDTH, most=2, colour=st.SOFT
    )


def _arms(sheet: Sheet, page: ChampionPage, y: float) -> float:
    """A row an arm: name, interval on a common axis, call and effect."""
    n = len(page.rows)
    height = min(TALLEST, 4.4 / max(1, n))
    left, right = st.LEFT + NAME, st.LEFT + NAME + PLOT
    at = lambda v: left + part(page.axis, v) * (right - left)  # noqa: E731
    bottom = y - n * height
    edges = at(-page.edge), at(page.edge)
    sheet.boxes([(edges[0], bottom, edges[1], y)], [st.BAND])
    sheet.lines([[(at(v), bottom), (at(v), y)] for v, _ in page.axis.ticks], st.FAINT, 0.6)
    sheet.lines([[(at(0.0), bottom), (at(0.0), y)]], st.INK, 0.8)
    for i, row in enumerate(page.rows):
        _arm(sheet, row, page, y - (i + 0.5) * height, left, right)
    sheet.lines([[(st.LEFT, y - i * height), (st.RIGHT, y - i * height)] for i in range(n + 1)], st.RULE, 0.4)
    for value, words in page.axis.ticks:
        sheet.text(at(value), bottom - 0.04, words, 6.2, across="center", up="top", colour=st.SOFT)
    sheet.text(left, bottom - 0.24, "← worse", 6.2, colour=st.SOFT)
    sheet.text(right, bottom - 0.24, "better →", 6.2, across="right", colour=st.SOFT)
    if page.left_out:
        sheet.fitted(right + 0.15, bottom - 0.14, page.left_out, 6.2, st.RIGHT - right - 0.15, colour=st.SOFT)
    return bottom - 0.3


def _arm(sheet: Sheet, row: ChampionRow, page: ChampionPage, y: float, left: float, right: float) -> None:
    colour = st.STATES.get(row.state, st.SOFT)
    sheet.fitted(st.LEFT, y + 0.05, row.arm + ("  ◂ pick" if row.is_pick else ""), 7.8, NAME - 0.1, face="Bold")
    sheet.fitted(st.LEFT, y - 0.075, f"{row.engine}: {row.what}", 6.2, NAME - 0.1, colour=st.SOFT)
    x = right + 0.15
    calls = row.state + (f"   {row.effect}" if row.effect else "") + (f"   n={row.n}" if row.n else "")
    sheet.fitted(x, y + 0.05, calls, 6.9, st.RIGHT - x, face="Bold" if row.is_pick else "Sans", colour=colour)
    sheet.paragraph(x, y - 0.07, row.why, 6.0, st.RIGHT - x, most=2, colour=st.SOFT)
    if row.span is None:
        return
    low, mid, high = (left + part(page.axis, v) * (right - left) for v in row.span)
    sheet.lines([[(low, y), (high, y)]], colour, 1.6)
    sheet.lines(
        [[(v, y - 0.04), (v, y + 0.04)] for v, true in ((low, row.span[0]), (high, row.span[2])) if _on(page, true)],
        colour,
        1.2,
    )
    dots = [(left + part(page.axis, v) * (right - left), y + 0.11) for v in row.dots if _on(page, v)]
    sheet.marks(dots, marker="o", markersize=2.6, markerfacecolor="none", markeredgecolor=colour, markeredgewidth=0.5)
    off = not _on(page, row.span[1])
    shape = ("<" if row.span[1] < page.axis.low else ">") if off else SHAPES.get(row.state, "o")
    hollow = row.state in ("UNKNOWN", "PASSES", "VETO")
    sheet.marks(
        [(mid, y)], marker=shape, markersize=5.4, markerfacecolor=st.CARD if hollow else colour, markeredgecolor=colour
    )


def _on(page: ChampionPage, value: float) -> bool:
    return page.axis.low <= value <= page.axis.high


def _command(sheet: Sheet, page: ChampionPage, y: float) -> float:
    if not page.command and all(row.engine == "endpoint" for row in page.rows):
        return y  # servers of somebody else: nothing to start
    sheet.text(st.LEFT, y - 0.1, "Start it", 8.6, face="Bold")
    if not page.command:
        sheet.text(st.LEFT, y - 0.27, "No command of the pick was kept: see serve.sh.", 7.2, colour=st.SOFT)
        return y - 0.33
    sheet.text(st.LEFT + 0.62, y - 0.1, "serve.sh holds the same, with the port as a variable", 6.8, colour=st.SOFT)
    lines = [line for part_ in page.command for line in wrap(part_, 72 * (st.WIDTH - 0.2) / 6.8, mono=True)]
    if len(lines) > COMMAND_LINES:
        lines = [*lines[: COMMAND_LINES - 1], "... (whole in serve.sh)"]
    bottom = y - 0.2 - 0.13 * len(lines) - 0.08
    sheet.boxes([(st.LEFT, bottom, st.RIGHT, y - 0.2)], [st.FAINT])
    for i, line in enumerate(lines):
        sheet.text(st.LEFT + 0.1, y - 0.33 - 0.13 * i, line, 6.8, face="Mono")
    return bottom


def _facts(sheet: Sheet, page: ChampionPage, y: float) -> float:
    for name, value in page.facts:
        sheet.text(st.LEFT, y, name, 7.0, colour=st.SOFT)
        y = sheet.paragraph(st.LEFT + 1.35, y, value, 7.0, st.WIDTH - 1.35, most=2) - 0.02
    return y


def _gates(sheet: Sheet, page: ChampionPage, y: float) -> None:
    """What is open or failed, a line each; what passed by name."""
    sheet.text(st.LEFT, y - 0.06, "Gates", 8.6, face="Bold")
    y -= 0.21
    not_passed = [g for g in page.gates if g[1] != "pass"]
    for name, state, reason in not_passed[:MOST_GATES]:
        sheet.text(st.LEFT, y, state, 7.0, face="Bold", colour=st.STATES.get(state, st.SOFT))
        y = sheet.paragraph(st.LEFT + 0.5, y, f"{name}: {reason}", 7.0, st.WIDTH - 0.5, most=2)
    y -= 0.03
    passed = [g[0] for g in page.gates if g[1] == "pass"]
    more = f"{len(not_passed) - MOST_GATES} more are not passed: CHAMPION.md. " if len(not_passed) > MOST_GATES else ""
    sheet.paragraph(st.LEFT, y, f"{more}Passed: {', '.join(passed) or 'none'}.", 7.0, st.WIDTH, most=2, colour=st.SOFT)
