"""report.txt: the report for a terminal, at most 100 columns, without colour or control characters."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

from profile_and_optimize.report.accuracy import AccuracyRow
from profile_and_optimize.report.arms import BASELINE, FAILED, ArmView
from profile_and_optimize.report.quantized import Quantized
from profile_and_optimize.report.view import View
from profile_and_optimize.report.words import count, width
from profile_and_optimize.report.workloads import WorkloadRow, WorkloadView

COLUMNS = 100


def report(v: View, root: str = "") -> str:
    parts = (
        _head(v),
        table(v),
        _engines(v),
        _absolutes(v),
        _proof(v),
        _gates(v),
        _starts(v),
        _workloads(v),
        _imported(v),
        _blocks(v),
        _accuracy(v),
        _quantized(v),
        _limits(v),
        _cost(v),
        _foot(v, root),
    )
    return "\n\n".join("\n".join(p) for p in parts if p) + "\n"


def table(v: View) -> list[str]:
    """The arms against the baseline: the table `pao optimize` ends with."""
    rows = [(("> " if a.is_pick else "  ") + cut(a.id, 24), a.state, _effect(a), str(a.blocks)) for a in v.arms]
    lines = grid(("  ARM", "CALL", "EFFECT", "n"), rows, right=(3,))
    out = [*wrap(f"Every arm against {v.baseline}: {v.endpoint}."), "", lines[0]]
    for a, line in zip(v.arms, lines[1:], strict=True):
        out += [line, *wrap(_why(a), "      ")]
    return out


def _effect(a: ArmView) -> str:
    if a.state in (BASELINE, FAILED):
        return "the reference" if a.state == BASELINE else "unknown"
    return a.effect_text


def _why(a: ArmView) -> str:
    said = [a.reason, f"log: {a.log}" if a.log else ""]
    if a.predicted:
        said.append(f"predicted {a.predicted}: {a.scored}")
    return "; ".join(x for x in said if x)


def _head(v: View) -> list[str]:
    h = v.headline
    out = [*wrap(f"{h.title} {h.name}".strip() + f"  [{h.tier}]"), *wrap(h.sentence), *wrap(f"{h.tier}: {h.caveat}.")]
    for line in v.earlier:
        out += wrap(line, "", hang=2)
    for line in v.code:
        out += wrap(f"RUNS CODE OF ITS OWN: {line}")
    if v.missing:
        out += wrap(f"INCOMPLETE: {'; '.join(v.missing)}")
    place = [
        ("run", f"{v.run_id}, {v.stamp}"), ("model", v.place.model), ("node", f"{v.place.hardware}, {v.place.node}"),
        ("engine", v.place.engines or "unknown"), ("suite", f"{v.place.suite}: {v.place.loads}"),
    ]  # fmt: skip
    return [*out, "", *pairs(place)]


def _engines(v: View) -> list[str]:
    """The best of each engine, where there are several; what is not a release is named."""
    lines = []
    for e in v.engines:
        lines += wrap(f"{e.engine} {e.version}, {e.delivery}", "  ", hang=2)
        lines += [x for arm, effect in e.top for x in wrap(f"{arm}: {effect}", "    ", hang=4)]
    return ["The best of each engine", *lines] if lines else []


def _absolutes(v: View) -> list[str]:
    """Both sides of a comparison of two, beside the ratio; the table of workloads has all metrics."""
    if v.started_here or not v.absolutes:
        return []
    heads = ("  WORKLOAD", "METRIC", v.baseline, next(a.id for a in v.arms if a.role == "candidate"))
    rows = [(f"  {p}", metric, one, two) for p, metric, one, two in v.absolutes]
    return ["Both servers, medians over blocks with 95% intervals", *grid(heads, rows)]


def _proof(v: View) -> list[str]:
    p = v.proof
    if p is None:
        return []
    lines = [f"Proof of the pick: {p.answer}", *wrap(p.sentence, "  ", hang=2), *wrap(f"{p.meaning}.", "  ", hang=2)]
    told = ", ".join(f"{b.block}: {b.ratio} ({', '.join(b.sessions)})" for b in p.blocks)
    return (
        lines + wrap(f"block by block, over the baseline and its twin (each session): {told}", "  ", hang=4)
        if told
        else lines
    )


def _gates(v: View) -> list[str]:
    lines = ["Gates"]
    for g in v.gates:
        lines += wrap(f"{g.state:<7} {g.name}: {g.reason}", "  ", hang=8)
    return lines


def _starts(v: View) -> list[str]:
    lines = [x for s in v.starts for x in wrap(s.words, "  ", hang=2)]
    return ["Server starts", *lines] if lines else []


def _workloads(v: View) -> list[str]:
    lines: list[str] = []
    for w in v.workloads:
        lines += [
            "" if lines else "Workloads: median (95% interval over n blocks)",
            *wrap(w.words, "  "),
            *_figures(v, w),
        ]
    return lines


def _figures(v: View, w: WorkloadView) -> list[str]:
    """Latencies and rates in two bands, since intervals do not fit side by side."""
    out: list[str] = []
    rows = [r for r in w.rows if not r.note]
    for part in (slice(0, 3), slice(3, 6)) if rows else ():
        heads = ("  arm", *(f"{c.head} {c.unit}" for c in v.columns[part]), "n")
        out += grid(heads, [_cells(r, part) for r in rows], right=(4,))
    out += [
        f"  {cut(r.arm, 24)}: ISL {r.isl}, OSL {r.osl}, {r.failed} requests failed, client {r.client}" for r in rows
    ]
    for r in w.rows:
        out += wrap(f"{r.arm}: {r.note}", "  ", hang=2) if r.note else []
    return out


def _cells(r: WorkloadRow, part: slice) -> tuple[str, ...]:
    figures = (f"{x.text} ({x.interval})" if x.interval else x.text for x in r.figures[part])
    return ("  " + cut(r.arm, 14), *figures, str(r.n))


def _imported(v: View) -> list[str]:
    """What other tools said of these cells; it is in nothing above."""
    lines = []
    for r in v.imported:
        told = ", ".join(f"{c.head} {x}" for c, x in zip(v.columns, r.values, strict=True))
        notes = f" ({r.notes})" if r.notes else ""
        lines += wrap(f"{r.cell} by {r.tool}, {r.workload} at {r.load}: {r.status}; {told}{notes}", "  ", hang=2)
    return ["Other tools on these cells (DRAFT material, in no comparison)", *lines] if lines else []


def _blocks(v: View) -> list[str]:
    lines = []
    for a in v.arms:
        if a.paired:
            lines += wrap(f"{a.id}: " + ", ".join(f"{b.block}: {b.text}" for b in a.paired), "  ", hang=4)
    lines += [x for b in v.blocks_out for x in wrap(b, "  ", hang=2)]
    return [f"Block by block, over {v.baseline} in the same block", *lines] if lines else []


def _accuracy(v: View) -> list[str]:
    if not v.accuracy:
        return ["Accuracy: unknown, no questions were asked (--questions FILE.jsonl)"]
    lines = [x for a in v.accuracy for x in wrap(_accuracy_words(a), "  ", hang=2)]
    lines += wrap(f"the bounds of the loss: {v.accuracy_assumes}", "  ", hang=2) if v.accuracy_assumes else []
    return [f"Accuracy (95% intervals of the share; net loss paired, tolerance {v.tolerance})", *lines]


def _accuracy_words(a: AccuracyRow) -> str:
    gate = f": {a.call}" if a.call else ""
    more = "".join(f", {x}" for x in (a.needed, a.flips and f"flips {a.flips}") if x)
    return f"{a.arm}: {a.right} right, {a.share} ({a.interval}), net loss {a.loss}{gate}{more}"


def _quantized(v: View) -> list[str]:
    if v.quantized is None:
        return []
    heads = ("  CHECKPOINT", "FORMAT", "SIZE", "KL", "ACCURACY", "TPOT", "RATE")
    rows = [(f"  {cut(r.arm, 20)}", cut(r.form, 24), r.size, r.kl, r.gate, r.tpot, r.rate) for r in v.quantized.rows]
    lines = [
        "Checkpoints: size as a ratio to the base, KL of the reloaded answers to the base's, medians",
        *grid(heads, rows),
    ]
    lines += [
        x
        for r in v.quantized.rows
        if r.loss
        for x in wrap(f"{r.arm}{', ' if r.on_top else ''}{r.on_top}: loss {r.loss}; speed {r.effect}", "  ", hang=2)
    ]
    lines += [x for name, effect in v.quantized.between for x in wrap(f"{name}: {effect}", "  ", hang=2)]
    for s in v.quantized.verdicts:
        lines += wrap(f"{s.ours}: {s.verdict.upper()} [{s.tier}]: {s.why}", "  ", hang=2)
        lines += [x for o in s.open for x in wrap(f"open: {o}", "    ", hang=2)]
    return [*lines, *_layers(v.quantized), *wrap(f"kernels: {v.quantized.kernels}", "  ")]


def _layers(q: Quantized) -> list[str]:
    """Asked against observed; the page names the line of the log."""
    rows = [(f"  {cut(x.arm, 20)}", x.group, cut(x.asked, 34), cut(x.observed, 40)) for x in q.layers]
    lines = grid(("  SERVED BY", "LAYERS", "KERNEL ASKED", "OBSERVED"), rows) if rows else []
    return [*lines, *(x for f in q.findings for x in wrap(f, "  ", hang=2))]


def _limits(v: View) -> list[str]:
    lines = ["Unknown", *(x for o in v.omitted for x in wrap(o, "  ", hang=2))]
    for g in v.gaps:
        lines += wrap(f"{g.kind} fields: {', '.join(g.names)}. {g.meaning}", "  ", hang=2)
    for m in v.mismatches:
        lines += wrap(f"not comparable: {m}", "  ", hang=2)
    return lines if len(lines) > 1 else []


def _cost(v: View) -> list[str]:
    lines = ["What it took", *pairs([(c.name.lower(), c.value) for c in v.cost], "  ")]
    if v.unused:
        lines.append(f"  {count(len(v.unused), 'trial')} on disk do not count; report.html names each with its reason")
    return [
        *lines,
        *(x for x in wrap(v.coverage, "  ", hang=2)),
        *(x for d in v.damaged for x in wrap(f"damaged: {d}", "  ")),
    ]


def _foot(v: View, root: str) -> list[str]:
    roots = [("evidence root", v.root), *([("root", root)] if root else [])]
    start = [("start it", "serve.sh")] if v.started_here else []
    return pairs([("check it", v.verify), *roots, *start, ("page", "report.html")])


def pairs(items: Iterable[tuple[str, str]], indent: str = "") -> list[str]:
    items = list(items)
    wide = max(len(k) for k, _ in items)
    return [x for k, value in items for x in wrap(f"{k:<{wide}}  {value}", indent, hang=wide + 2)]


def wrap(text: str, indent: str = "", *, hang: int = 0) -> list[str]:
    """Lines of at most 100 columns; a wide character counts as two."""
    room = COLUMNS - len(indent)
    narrow = room if width(text) == len(text) else room // 2
    lines = textwrap.wrap(text, narrow, subsequent_indent=" " * hang, break_on_hyphens=False)
    return [indent + line for line in lines] or [indent.rstrip()]


def cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def grid(heads: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> list[str]:
    """Columns two spaces apart, as wide as their widest cell."""
    table = [heads, *rows]
    wide = [max(len(r[i]) for r in table) for i in range(len(heads))]
    cells = [[c.rjust(wide[i]) if i in right else c.ljust(wide[i]) for i, c in enumerate(r)] for r in table]
    return ["  ".join(r).rstrip() for r in cells]
