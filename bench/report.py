"""How long do the pages of report.pdf take?

    python bench/report.py [--runs 5] [--copies 25] [--out bench/results]

The seed's two pages for 40 cells (232 points) after import, each page by itself and the file's closing (fonts); the same two
pages drawn as matplotlib is usually used (an Axes per pane, one scatter call and one annotation a point, a table of text,
tight_layout) in the same process; then all pages of a campaign of 1,000 cells. Fresh processes, so that no cache of one
helps the other. Needs a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

BAR_S, LARGE_BAR_S = 2.0, 15.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--copies", type=int, default=25, help="times the 40 cells of the large campaign")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--one", choices=tuple(ONE), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(ONE[asked.one](asked.copies)))
        return 0
    # Interleaved: what else the machine does falls on both alike.
    found: dict[str, list[dict[str, Any]]] = {"ours": [], "plain": []}
    for _ in range(asked.runs):
        for kind, runs in found.items():
            runs.append(fresh(kind, asked.copies))
    large = fresh("large", asked.copies)
    text = table(found["ours"], found["plain"], large)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"report-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    best = min(sum(r["page_ms"]) + r["close_ms"] for r in found["ours"])
    return 0 if best < 1e3 * BAR_S and large["wall_ms"] < 1e3 * LARGE_BAR_S else 1


def fresh(kind: str, copies: int) -> dict[str, Any]:
    argv = [sys.executable, __file__, "--one", kind, "--copies", str(copies)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=True)
    print(f"{kind}: {done.stdout.strip()}", file=sys.stderr, flush=True)
    return dict(json.loads(done.stdout))


def timed(work: Callable[[], Any]) -> tuple[Any, float, float]:
    """(value, wall ms, CPU ms)."""
    begin, cpu = time.perf_counter(), time.process_time()
    value = work()
    return value, 1e3 * (time.perf_counter() - begin), 1e3 * (time.process_time() - cpu)


def ours(copies: int) -> dict[str, Any]:
    write, import_ms, _ = timed(_writer)
    from profile_and_optimize.report.pages.build import report_of
    from profile_and_optimize.testing.smoke import smoke_source

    report, pages_ms, _ = timed(lambda: report_of(smoke_source()))
    two = replace(report, pages=report.pages[:2])
    took: list[float] = []
    data, wall, cpu = timed(lambda: write.pdf_of(two, took))
    return {
        "import_ms": import_ms, "pages_ms": pages_ms, "page_ms": [1e3 * t for t in took], "close_ms": wall - 1e3 * sum(took),
        "cpu_ms": cpu, "bytes": len(data),
    }  # fmt: skip


def _writer() -> Any:
    from profile_and_optimize.report.pdf import write

    return write


def large(copies: int) -> dict[str, Any]:
    write = _writer()
    from profile_and_optimize.report.pages.build import report_of
    from profile_and_optimize.testing.smoke import smoke_source

    report, pages_ms, _ = timed(lambda: report_of(smoke_source(copies=copies)))
    took: list[float] = []
    data, wall, cpu = timed(lambda: write.pdf_of(report, took))
    kinds = [p.kind for p in report.pages]
    return {
        "cells": 40 * copies, "coverage": report.coverage, "pages_ms": pages_ms, "wall_ms": wall + pages_ms, "cpu_ms": cpu,
        "bytes": len(data), "kinds": {k: kinds.count(k) for k in dict.fromkeys(kinds)}, "page_ms": [1e3 * t for t in took],
    }  # fmt: skip


def usual(copies: int) -> dict[str, Any]:
    """The same two pages in the straight way."""
    _, import_ms, _ = timed(_pyplot)
    from profile_and_optimize.report.pages.build import report_of
    from profile_and_optimize.testing.smoke import smoke_source

    report = report_of(smoke_source())
    out = io.BytesIO()
    took: list[float] = []
    _, wall, cpu = timed(lambda: _usual(report.pages[0], report.pages[1], out, took))
    return {"import_ms": import_ms, "page_ms": [1e3 * t for t in took], "close_ms": wall - 1e3 * sum(took), "cpu_ms": cpu,
            "bytes": len(out.getvalue())}  # fmt: skip


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("pdf")
    matplotlib.rcParams["pdf.fonttype"] = 42
    from matplotlib import pyplot

    return pyplot


def _usual(scatter: Any, heat: Any, out: io.BytesIO, took: list[float]) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    with PdfPages(out) as pdf:
        for draw in (lambda: _usual_panes(scatter), lambda: _usual_tables(heat)):
            begin = time.perf_counter()
            figure = draw()
            figure.tight_layout()
            pdf.savefig(figure)
            took.append(time.perf_counter() - begin)


def _usual_panes(page: Any) -> Any:
    figure, axes = _pyplot().subplots(len(page.rows), 2, figsize=(8.27, 11.69), sharex="col", sharey="col")
    for row, pair in zip(page.rows, axes, strict=True):
        for ax, pane, (x, y) in zip(pair, (row.left, row.right), (row.left_axes, row.right_axes), strict=True):
            for s in pane.series:
                ax.plot([d.x for d in s.dots], [d.y for d in s.dots], color=f"C{s.hue}", alpha=0.5, linewidth=0.7)
                for d in s.dots:
                    marker = {"EP": "o", "TP": "X"}[s.shape]
                    ax.scatter(
                        d.x, d.y, color=f"C{s.hue}", marker=marker, facecolors="none" if s.fill == "hollow" else None
                    )
                    if d.label:
                        ax.annotate(d.label, (d.x, d.y), fontsize=6)
            ax.set_xscale("log" if x.log else "linear")
            ax.set_yscale("log" if y.log else "linear")
            ax.set_title(row.head, fontsize=8)
            ax.grid(True)
    figure.supxlabel(page.note, fontsize=6)
    return figure


def _usual_tables(page: Any) -> Any:
    figure, axes = _pyplot().subplots(len(page.pairs), 2, figsize=(8.27, 11.69))
    for pair, line in zip(page.pairs, axes, strict=True):
        for table, ax in zip(pair, line, strict=True):
            shades = [[0.0 if c.shade is None else c.shade for c in row] for row in table.cells]
            ax.imshow(shades, aspect="auto", cmap="Blues")
            for i, row in enumerate(table.cells):
                for j, cell in enumerate(row):
                    ax.text(j, i, f"{cell.text}\n{cell.sub}", ha="center", va="center", fontsize=5)
            ax.set_xticks(range(len(table.columns)), table.columns, fontsize=6)
            ax.set_yticks(range(len(table.rows)), [n for n, _ in table.rows], fontsize=6)
            ax.set_title(table.title, fontsize=8)
    return figure


ONE: dict[str, Callable[[int], dict[str, Any]]] = {"ours": ours, "plain": usual, "large": large}


def table(ours: list[dict[str, Any]], plain: list[dict[str, Any]], large: dict[str, Any]) -> str:
    totals = [[sum(r["page_ms"]) + r["close_ms"] for r in runs] for runs in (ours, plain)]
    best = min(totals[0])
    lines = [
        "# The report's pages, how fast", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, matplotlib "
        f"{version('matplotlib')}, load {os.getloadavg()[0]:.2f} at the end. {len(ours)} fresh processes each, in turn; medians.", "",
        f"- The seed's two pages, 40 cells and 232 points, after import: {', '.join(f'{t:.0f}' for t in totals[0])} ms. "
        f"Bar (< {BAR_S:.0f} s): {'PASS' if best < 1e3 * BAR_S else 'FAIL'}.",
        f"- {large['cells']} cells, all pages: {large['wall_ms'] / 1e3:.2f} s ({large['cpu_ms'] / 1e3:.2f} CPU-s), "
        f"{large['bytes'] / 1e6:.1f} MB. Bar (< {LARGE_BAR_S:.0f} s): {'PASS' if large['wall_ms'] < 1e3 * LARGE_BAR_S else 'FAIL'}.",
        f"  Paged so that it can be read: {', '.join(f'{n} of {k}' for k, n in large['kinds'].items())}.",
        "  At most 40 cells a page of tables, five rows of panes and seven colours a page; in a pane of more than 12 cells only",
        "  those that nothing beats on both axes have labels.", "",
        "| two pages, ms | panes | tables | closing (fonts) | together | CPU | kB | import |", "|---|---|---|---|---|---|---|---|",
        _row("report/pdf", ours), _row("matplotlib as usual", plain), "",
        f"What the pages show takes {_median(r['pages_ms'] for r in ours):.0f} ms before that; a page of the large campaign takes "
        f"{_median(large['page_ms']):.0f} ms.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(name: str, runs: list[dict[str, Any]]) -> str:
    cells = [
        _median(r["page_ms"][0] for r in runs), _median(r["page_ms"][1] for r in runs), _median(r["close_ms"] for r in runs),
        _median(sum(r["page_ms"]) + r["close_ms"] for r in runs), _median(r["cpu_ms"] for r in runs),
        _median(r["bytes"] / 1e3 for r in runs), _median(r["import_ms"] for r in runs),
    ]  # fmt: skip
    return f"| {name} | " + " | ".join(f"{c:.0f}" for c in cells) + " |"


def _median(values: Any) -> float:
    return statistics.median(list(values))


if __name__ == "__main__":
    sys.exit(main())
