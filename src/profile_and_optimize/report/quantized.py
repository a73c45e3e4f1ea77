"""The checkpoints of a campaign as a reader meets them: what each is, what it keeps, how fast it is, and what to ship."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.kernels import WORDS, finding_words, observed_words
from profile_and_optimize.analysis.three_way import three_way
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.report.words import UNKNOWN, plain


@dataclass(frozen=True)
class CheckpointRow:
    """One of base, ours, vendor; every field in words. `on_top` are the flags and the environment that it is served with, "" for
    none of its own."""

    arm: str
    role: str
    form: str
    size: str
    kl: str
    loss: str
    gate: str
    tpot: str
    rate: str
    effect: str
    source: str
    on_top: str


@dataclass(frozen=True)
class ShipWords:
    """What to ship for one checkpoint of ours, and what keeps that from a VERDICT."""

    ours: str
    verdict: str
    tier: str
    why: str
    open: tuple[str, ...]


@dataclass(frozen=True)
class LayerRow:
    """One group of layers of one arm: the kernel asked for, the one observed, and the line of the log that names it."""

    arm: str
    group: str
    asked: str
    observed: str
    source: str
    line: str


@dataclass(frozen=True)
class Quantized:
    rows: tuple[CheckpointRow, ...]
    verdicts: tuple[ShipWords, ...]
    between: tuple[tuple[str, str], ...]
    kernels: str
    layers: tuple[LayerRow, ...] = ()
    findings: tuple[str, ...] = ()


def quantized(ev: Evidence, d: Decision) -> Quantized | None:
    """None for a campaign that serves one checkpoint only."""
    found = three_way(ev, d)
    if found is None:
        return None
    return Quantized(
        tuple(_row(r) for r in found["rows"]),
        tuple(
            ShipWords(plain(v["ours"]), v["verdict"], v["tier"], plain(v["why"]), tuple(map(plain, v["open"])))
            for v in found["verdicts"]
        ),
        tuple((plain(name), _effect(e)) for name, e in found["between"].items()),
        found["kernels"],
        tuple(_layer(arm, x) for arm, layers in found.get("layers", {}).items() for x in layers),
        tuple(plain(finding_words(f)) for f in found.get("kernel_findings", ())),
    )


def _layer(arm: str, x: dict[str, Any]) -> LayerRow:
    log, line = (x["line"]["log"], str(x["line"]["number"])) if x["line"] else ("", "")
    return LayerRow(plain(arm), WORDS[x["group"]], plain(x["asked"]), plain(observed_words(x)), log, line)


def _row(r: dict[str, Any]) -> CheckpointRow:
    kl = (r["kl_base"] or {}).get("reloaded")
    base = r["role"] == "base"
    return CheckpointRow(
        arm=plain(r["cell"]), role=r["role"], form=plain(r["format"]),
        size="1.00" if base else UNKNOWN if r["size_ratio"] is None else f"{r['size_ratio']:.2f}",
        kl="" if base else UNKNOWN if kl is None else f"{kl:.2g}",
        loss="" if base else _loss(r), gate="" if base else _gate(r),
        tpot=UNKNOWN if r["tpot_ms_median"] is None else f"{r['tpot_ms_median']:.2f} ms",
        rate=UNKNOWN if r["output_throughput_tok_s_median"] is None else f"{r['output_throughput_tok_s_median']:.1f} tok/s",
        effect="the reference" if base else plain(r["failure"]) if r["failure"] else _effect(r["effect"]),
        source="" if base else f"cells/{r['cell']}/raw/checkpoint.json", on_top="" if base else _on_top(r),
    )  # fmt: skip


def _on_top(r: dict[str, Any]) -> str:
    words = (*r["flags"], *(f"{k}={v}" for k, v in r["env"].items()))
    return plain(f"served with {' '.join(words)}") if words else ""


def _loss(r: dict[str, Any]) -> str:
    if r["loss_points"] is None:
        return UNKNOWN
    asked = f", n = {r['accuracy']['n']}" if r["accuracy"] else ""
    ends = f"{_points(r['loss_lower_points'])} to {_points(r['loss_upper_points'])}"
    return f"{_points(r['loss_points'])} ({ends}) points{asked}"


def _points(value: float | None) -> str:
    return UNKNOWN if value is None else f"{round(value, 2) + 0.0:+.2f}"


def _gate(r: dict[str, Any]) -> str:
    more = f": about {r['questions_needed']} more questions" if r["questions_needed"] else ""
    return f"{r['accuracy_gate']}{more}" if r["accuracy_gate"] else UNKNOWN


def _effect(e: dict[str, Any] | None) -> str:
    if e is None or e["lower"] is None or e["upper"] is None:
        return UNKNOWN
    return f"{e['call']} {e['estimate']:+.1%} ({e['lower']:+.1%} to {e['upper']:+.1%})"
