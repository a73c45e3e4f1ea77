"""All pages of a report, in order: panes, tables, champion, completeness."""

from __future__ import annotations

from profile_and_optimize.report.pages.champion import champion_page
from profile_and_optimize.report.pages.complete import complete_pages
from profile_and_optimize.report.pages.heat import heat_pages
from profile_and_optimize.report.pages.measured import Measured, cell_states, coverage_words, measured
from profile_and_optimize.report.pages.model import Page, Report
from profile_and_optimize.report.pages.scatter import scatter_pages
from profile_and_optimize.report.pages.source import Source
from profile_and_optimize.report.words import UNKNOWN

MOST_VARIANTS = 8


def report_of(s: Source) -> Report:
    points = measured(s.rows)
    coverage = coverage_words(s.rows, s.primary)
    heads = (
        s.options.variants_line or variants_line(s.model, points),
        s.options.data_source_line or s.data_line,
        coverage,
    )
    panes = scatter_pages(points, heads)
    tables = heat_pages(points, () if panes else heads)
    champion = [champion_page(s.champion)] if s.champion else []
    pages: list[Page] = [*panes, *tables, *champion, *complete_pages(s, points, coverage)]
    return Report(s.stamp, tuple(pages), s.omitted, coverage, len(cell_states(s.rows)))


def variants_line(model: str, points: tuple[Measured, ...]) -> str:
    """Which precision on which hardware, as far as known: what the colours stand for."""
    seen = dict.fromkeys((p.variant.quant, p.variant.hardware) for p in points if p.plotted)
    words = [
        f"{model} ({q if q != UNKNOWN else 'precision unknown'}, {h if h != UNKNOWN else 'hardware unknown'})"
        for q, h in seen
    ]
    more = [f"{len(words) - MOST_VARIANTS} more"] if len(words) > MOST_VARIANTS else []
    return f"Variants: {' | '.join([*words[:MOST_VARIANTS], *more])}" if words else f"Variants: {model}"
