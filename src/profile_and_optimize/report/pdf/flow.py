"""Draws a page of text lines."""

from __future__ import annotations

from profile_and_optimize.report.pages.model import Report, TextPage
from profile_and_optimize.report.pdf import style as st
from profile_and_optimize.report.pdf.sheet import Sheet, head

SIZE, STEP = 8.0, 0.163


def draw(sheet: Sheet, page: TextPage, report: Report) -> None:
    y = head(sheet, report, page.title, ()) - 0.06
    for line in page.lines:
        if line.style == "head":
            sheet.text(st.LEFT, y, line.text, 9.0, face="Bold")
        elif line.text.startswith("   "):
            sheet.text(st.LEFT + 0.16, y, line.text[3:], SIZE)
        else:
            sheet.text(st.LEFT, y, line.text, SIZE)
        y -= STEP if line.text else STEP * 0.55
