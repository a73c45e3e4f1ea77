"""Sizes and colours of the pages: those of report.html, with hues that readers with any colour vision tell apart."""

from __future__ import annotations

# A4, upright, in inches; text sizes in points.
PAGE = (8.27, 11.69)
LEFT, RIGHT, TOP, BOTTOM = 0.55, 7.72, 11.29, 0.62
WIDTH = RIGHT - LEFT

INK, SOFT, RULE, FAINT, CARD, PAPER = "#1b1d21", "#5b616b", "#d3d0ca", "#f2f0ec", "#ffffff", "#ffffff"
BAND, DRAFT, DRAFT_BG, VERDICT, VERDICT_BG = "#dfe7f2", "#8a5a00", "#fdf3dc", "#00714f", "#e2f4ec"
STATES = {
    "BETTER": "#00714f", "WORSE": "#b3470a", "SAME": "#2b5f9e", "UNKNOWN": "#6a6f78", "FAILED": "#a11d33", "PASSES": "#2b5f9e",
    "VETO": "#b3470a", "BASELINE": "#6a6f78", "RACED OUT": "#6a6f78", "pass": "#00714f", "open": "#8a5a00", "failed": "#a11d33",
}  # fmt: skip
# Okabe and Ito (2008), without the yellow that paper swallows; the last one is for what is unknown.
HUES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1b1d21", "#8b9099")
GRAY = "#dcdad6"
# From worst to best in a table; the text turns white where the ground is dark.
SHADES = ("#f3f6fb", "#1f4f8f")
WHITE_FROM = 0.7
MARKERS = {"EP": "o", "TP": "X", "unknown": "D"}
SIZES = {"o": 4.6, "X": 5.2, "D": 4.2}


def shade(place: float) -> tuple[float, float, float]:
    """Between the two ends of SHADES."""
    low, high = (rgb(c) for c in SHADES)
    r, g, b = (a + (z - a) * place for a, z in zip(low, high, strict=True))
    return r, g, b


def rgb(colour: str) -> tuple[float, float, float]:
    r, g, b = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return r, g, b
