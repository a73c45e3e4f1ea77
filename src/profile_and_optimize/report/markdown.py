"""CHAMPION.md, HANDOFF.md and summary.md. Text from outside is escaped, so that it stays text in any viewer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from profile_and_optimize.report.arms import FAILED, ArmView
from profile_and_optimize.report.quantized import Quantized
from profile_and_optimize.report.view import GateView, View

_SPECIAL = re.compile(r"([\\`*_{}\[\]()<>#|!~&])")


def esc(text: str) -> str:
    """`text` with every character that Markdown or HTML could act on as a character of itself."""
    return _SPECIAL.sub(r"\\\1", text).replace("\\<", "&lt;").replace("\\>", "&gt;").replace("\\&", "&amp;")


def light(text: str) -> str:
    """As `esc` for words that this package wrote around ids and numbers: parentheses stay readable."""
    return esc(text).replace("\\(", "(").replace("\\)", ")")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(light(c) or " " for c in r) + " |" for r in rows]


def bullets(items: Iterable[str], nothing: str) -> list[str]:
    return [f"- {light(x)}" for x in items] or [nothing]


def document(*parts: Iterable[str]) -> str:
    return "\n\n".join("\n".join(p) for p in parts) + "\n"


def champion(v: View) -> str:
    h = v.headline
    return document(
        [f"# Champion: {light(h.pick)} ({h.tier})"],
        [light(h.sentence)],
        [f"**{h.tier}**: {light(h.caveat)}."],
        *([[f"- {light(x)}" for x in v.earlier]] if v.earlier else []),
        *_code_lines(v),
        ["## What keeps it from a VERDICT", "", *bullets(map(_gate_words, v.open_gates), "Nothing: every gate passed.")],
        *([["## Start it", "", "```", "bash serve.sh            # PORT=8000 by default", "```", "",
            "`serve.manifest.json` holds the same as data."]] if v.started_here else []),
        ["## Effects", "", f"{light(v.endpoint[0].upper() + v.endpoint[1:])}. Margin {v.margin}.", "", *_effects(v)],
        *([["## Proof of the pick", "", f"{light(v.proof.answer)}: {light(v.proof.sentence)}. {light(v.proof.meaning)}."]]
          if v.proof else []),
        *([["## Server starts", "", *_starts(v)]] if v.starts else []),
        *([["## The best of each engine", "", *_engines(v)]] if v.engines else []),
        *([["## Checkpoints", "", *_quantized(v.quantized)]] if v.quantized else []),
        ["## Measured against", "", f"{light(v.baseline)}, on the same node, in the same blocks; suite `{_code(v.place.suite)}`."],
        ["## Applies to", "", *bullets(v.applies, ""), "", "Not covered:", "", *bullets(v.applies_not, "")],
        ["## Evidence", "", f"- run `{_code(v.run_id)}`, {v.stamp}", f"- evidence root `{v.root}`", f"- check it: `{_code(v.verify)}`"],
    )  # fmt: skip


def _code_lines(v: View) -> list[list[str]]:
    return [[f"**Runs code of its own**: {light(line)}" for line in v.code]] if v.code else []


def _code(text: str) -> str:
    return text.replace("`", "'")


def _gate_words(g: GateView) -> str:
    return f"{g.name} {g.state}: {g.reason}"


def _effects(v: View) -> list[str]:
    return table(("arm", "call", "effect", "interval", "n blocks", "why"), map(_effect_row, v.arms))


def _effect_row(a: ArmView) -> tuple[str, ...]:
    shown = "unknown" if a.state == FAILED else a.effect_text or "the reference"
    return a.id, a.state, shown, "" if a.coverage == "unknown" else a.coverage, str(a.blocks), a.reason


def _starts(v: View) -> list[str]:
    rows = [(s.arm, str(s.starts), str(s.failed), str(s.deaths), s.note) for s in v.starts]
    return table(("arm", "starts", "failed", "died", "why"), rows)


def _engines(v: View) -> list[str]:
    rows = [(e.engine, e.version, e.delivery, arm, effect) for e in v.engines for arm, effect in e.top]
    return table(("engine", "version", "delivery", "arm", "effect"), rows)


def _quantized(q: Quantized) -> list[str]:
    heads = (
        "checkpoint",
        "role",
        "format",
        "size",
        "KL to base",
        "net loss",
        "accuracy gate",
        "median TPOT",
        "median rate",
        "speed",
    )
    rows = [
        (r.arm, r.role, f"{r.form} {r.on_top}".strip(), r.size, r.kl, r.loss, r.gate, r.tpot, r.rate, r.effect)
        for r in q.rows
    ]
    said = [f"{s.ours}: {s.verdict} ({s.tier}): {s.why}" + "".join(f"; open: {o}" for o in s.open) for s in q.verdicts]
    between = [f"{name}: {effect}" for name, effect in q.between]
    layers = [(x.arm, x.group, x.asked, x.observed, f"{x.source}:{x.line}" if x.source else "") for x in q.layers]
    kernels = [*table(("checkpoint", "layers", "kernel asked", "observed", "from"), layers), ""] if layers else []
    return [
        *table(heads, rows),
        "",
        *kernels,
        *bullets((*said, *between, *q.findings, f"kernels: {q.kernels}"), ""),
    ]


def handoff(v: View) -> str:
    return document(
        [f"# Handoff: the standing frontier after {light(v.run_id)}"],
        [f"The floor is now {light(v.headline.pick)} ({v.headline.tier}). {light(v.headline.sentence)}"],
        *_code_lines(v),
        ["## Next levers", "", *_levers(v)],
        ["## Failed arms", "", *bullets(map(_failure, v.failed), "None.")],
        ["## Open gates, as work", "", *bullets((f"{g.name} ({g.state}): {g.todo}. Now: {g.reason}" for g in v.open_gates), "None.")],
        ["## Predictions, scored", "", *_predictions(v)],
        ["## Blocks that do not count", "", *bullets(v.blocks_out, "None.")],
        ["## Evidence", "", f"- evidence root `{v.root}`, {v.stamp}", f"- check it: `{_code(v.verify)}`"],
    )  # fmt: skip


def _levers(v: View) -> list[str]:
    """UNKNOWN arms, cheapest answer first. None left means that new levers must be named, not that the work is done."""
    if not v.levers:
        return ["No arm stayed UNKNOWN. Name new levers, with this run's pick as their baseline."]
    rows = [
        (str(i), a.id, a.lever, a.effect_text, str(a.blocks), a.blocks_needed, a.reason)
        for i, a in enumerate(v.levers, 1)
    ]
    told = "Ranked by the blocks it takes to tell; where equal, by what they could gain at most."
    return [told, "", *table(("rank", "arm", "lever", "so far", "n blocks", "blocks needed", "why unknown"), rows)]


def _failure(a: ArmView) -> str:
    return f"{a.id} ({a.lever}; {a.flags}): {a.reason}. Log: {a.log or 'the engine wrote none'}"


def _predictions(v: View) -> list[str]:
    rows = [
        (
            a.id,
            a.predicts or "not said",
            a.predicted or "no range given",
            _measured(a),
            a.scored or "not scored: no range",
        )
        for a in v.predictions
    ]
    return (
        table(("arm", "prediction", "range", "measured", "score"), rows)
        if rows
        else ["None was written before measuring."]
    )


def _measured(a: ArmView) -> str:
    return "unknown" if a.state == FAILED else a.effect_text


def summary(v: View) -> str:
    h = v.headline
    rows = ((a.id, a.state, "" if a.state == FAILED else a.effect_text, str(a.blocks)) for a in v.arms)
    return document(
        [f"# {light(v.run_id)}"],
        [f"**{light(f'{h.title} {h.name}'.strip())}** ({h.tier}). {light(h.sentence)} {light(h.caveat[0].upper() + h.caveat[1:])}."],
        *_code_lines(v),
        table(("arm", "call", "effect", "n blocks"), rows),
        [f"{light(v.coverage)}"],
        [f"Model {light(v.place.model)} on {light(v.place.hardware)}; suite {light(v.place.suite)}; {v.stamp}; evidence root `{v.root}`."],
    )  # fmt: skip
