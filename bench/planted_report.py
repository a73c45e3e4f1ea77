"""The page of `planted_faults.py`: by kind, by export, and the errors of rounding beside their theory."""

from __future__ import annotations

import json
import platform
import re
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import own_dequant
from planted_kinds import KINDS
from planted_space import Planted, Tensors, read_file

REFUSED_BAR, FAULTS_BAR, KINDS_BAR, EXPORTS_BAR = 0.99, 400, 40, 60
Result = dict[str, Any]
# Smallest and largest error of any one weight, as shares of the theory's. GPTQ trades distance to the weights for distance to
# their products; AWQ moves scales between weights before it rounds them, and the theory says nothing of the sum.
NEAR: dict[str, tuple[float, float] | None] = {"": (0.85, 1.2), "GPTQ": (0.9, 1.8), "AWQ": None}


@dataclass(frozen=True)
class Exports:
    """Names of those that were made, where they lie, and why others were not."""

    names: list[str]
    store: Path
    refused: dict[str, str]
    workers: str


@dataclass
class Tally:
    planted: int = 0
    refused: int = 0
    named: int = 0
    missed: list[str] = field(default_factory=list)

    def add(self, r: Result) -> None:
        told = bool(r["refused"]) and is_named(r["text"], tuple(r["planted"]))
        self.planted += 1
        self.refused += r["refused"]
        self.named += told
        where = f"{r['export']} ({r['planted'][0] if r['planted'] else ''})"
        if not r["refused"]:
            self.missed.append(where)
        elif not told:
            self.missed.append(f"not named: {where}")


def tallied(faults: list[Result], key: Callable[[Result], str]) -> dict[str, Tally]:
    out: dict[str, Tally] = defaultdict(Tally)
    for r in faults:
        out[key(r)].add(r)
    return out


def is_named(text: str, names: tuple[str, ...]) -> bool:
    return any(spelling in text for name in names for spelling in spellings(name))


def spellings(name: str) -> set[str]:
    """A tensor may be named by itself, its module, from its layer on, or as the base's stack of experts that it is a part of."""
    out = {name}
    stem = re.sub(
        r"[._](weight_packed|weight_scale_2|weight_global_scale|weight_scale|input_scale|input_global_scale|weight_zero_point"
        r"|weight_shape|pre_quant_scale|weight_g_idx)$", "", name)  # fmt: skip
    kind = "_bias" if stem.endswith(".bias") else ""
    stem = stem.removesuffix(".weight").removesuffix(".bias")
    if "." in name:
        out.add(stem)
    if "layers." in name:
        out.add(stem[stem.index("layers.") :])
        if found := re.match(r"(.*experts)\.\d+\.(\w+)$", stem):
            last = "down_proj" if found[2] in ("down_proj", "w2") else "gate_up_proj"
            out |= {f"{found[1]}.{last}{kind}", f"{found[1]}.{last}{kind}"[found[1].index("layers.") :]}
    return out


# ---- by an export's own bytes


@dataclass(frozen=True)
class Rounding:
    """The relative errors of one format, with the method that searched in it, over all exports."""

    label: str
    method: str
    exports: int
    errors: list[float]

    @property
    def theory(self) -> float:
        return own_dequant.theory(self.label)

    @property
    def holds(self) -> bool | None:
        """None where the theory does not speak of it."""
        bounds = NEAR[self.method]
        if bounds is None:
            return None
        return bounds[0] * self.theory <= min(self.errors) and max(self.errors) <= bounds[1] * self.theory

    def row(self) -> str:
        name = f"{self.label} by {self.method}" if self.method else self.label
        held = {True: "yes", False: "NO", None: "no theory: scaled first"}[self.holds]
        return (
            f"| {name} | {len(self.errors)} | {self.exports} | {median(self.errors):.4f} | {min(self.errors):.4f} | "
            f"{max(self.errors):.4f} | {self.theory:.4f} | {held} |"
        )


def by_bytes(exports: Exports) -> tuple[list[Rounding], list[str]]:
    """Every quantized weight dequantized by the bench's own code; and weights whose place in the base is not known here."""
    found: dict[tuple[str, str], list[tuple[str, float]]] = defaultdict(list)
    lost: list[str] = []
    for name in exports.names:
        job = json.loads((exports.store / f"{name}.job.json").read_text())
        planted = Planted(job, exports.store / name / "export", exports.store / name / "work", {}, name)
        base: Tensors = {}
        for file in Path(job["base"]).glob("*.safetensors"):
            base |= read_file(file)[0]
        errors, gone = own_dequant.errors(planted.tensors, planted.packed, base)
        method = next((m for m in ("GPTQ", "AWQ") if job["target"].endswith(m.lower())), "")
        for e in errors:
            found[e.kind, method].append((name, e.relative))
        lost += [f"{name}: {n}" for n in gone]
    rows = [Rounding(k, m, len({n for n, _ in each}), [e for _, e in each]) for (k, m), each in sorted(found.items())]
    return rows, lost


# ---- the page


def page(exports: Exports, results: list[Result], took_s: float) -> tuple[str, bool]:
    """The text, and whether every bar that was asked holds. Changes of an export whose clean copy is refused prove nothing,
    and are not counted."""
    planted = [r for r in results if r.get("planted") is not None]
    failing = {r["export"] for r in planted if r["kind"] == "clean" and r["refused"]}
    clean = [r for r in planted if KINDS[r["kind"]].harmless and (r["kind"] == "clean" or r["export"] not in failing)]
    faults = [r for r in planted if not KINDS[r["kind"]].harmless and r["export"] not in failing]
    kinds = tallied(faults, lambda r: f"{KINDS[r['kind']].group} | {r['kind']}")
    rounding, lost = by_bytes(exports)
    bars, passed = bars_of(exports, kinds, clean, rounding, lost)
    models = len({n.split("--")[0] for n in exports.names})
    head = [
        "# Planted faults", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, Python {platform.python_version()}; workers {exports.workers[:12]}; "
        f"{len(exports.names)} exports of {models} architectures; {took_s:.0f} s in this run.", "", *bars, "",
    ]  # fmt: skip
    parts = [
        *head, *rounding_table(rounding), *kind_table(kinds),
        *export_table(tallied(faults, lambda r: r["export"]), clean, exports.refused),
    ]  # fmt: skip
    return "\n".join(parts) + "\n", passed


def bars_of(
    exports: Exports, kinds: dict[str, Tally], clean: list[Result], rounding: list[Rounding], lost: list[str]
) -> tuple[list[str], bool]:
    planted, refused, named = (sum(getattr(t, n) for t in kinds.values()) for n in ("planted", "refused", "named"))
    passing = sum(not r["refused"] for r in clean)
    own = [r for r in clean if r["kind"] == "clean"]
    right = all(r.holds is not False for r in rounding)
    enough = planted >= FAULTS_BAR and len(kinds) >= KINDS_BAR and len(exports.names) >= EXPORTS_BAR
    share = min(refused, named) / max(1, planted)
    passed = share >= REFUSED_BAR and passing == len(clean) and right
    answer = "FAIL" if not passed else "PASS" if enough else "holds as far as it was asked: fewer faults or exports"
    return [
        f"- Faults: {planted} of {len(kinds)} kinds; {refused} refused ({refused / max(1, planted):.1%}), "
        f"{named} with the tensor, key or file named ({named / max(1, planted):.1%}).",
        f"- Clean exports: {sum(not r['refused'] for r in own)} of {len(own)} pass; changed without harm: "
        f"{passing - sum(not r['refused'] for r in own)} of {len(clean) - len(own)}.",
        f"- By their own bytes: {sum(len(r.errors) for r in rounding)} weights dequantized by the bench's code, {len(lost)} not "
        f"placed ({', '.join(lost[:1])}{', ...' if len(lost) > 1 else ''}); errors {'are' if right else 'ARE NOT'} those of the theory.",
        f"- Bar ({REFUSED_BAR:.0%} of {FAULTS_BAR} faults of {KINDS_BAR} kinds on {EXPORTS_BAR} exports refused and named, every "
        f"clean one passes): {answer}.",
    ], passed  # fmt: skip


def rounding_table(rounding: list[Rounding]) -> list[str]:
    head = "| format | weights | exports | median error | smallest | largest | theory | within |"
    return [head, "|---|---|---|---|---|---|---|---|", *(r.row() for r in rounding), ""]


def kind_table(kinds: dict[str, Tally]) -> list[str]:
    rows = ["| of | kind | planted | refused | named | missed in |", "|---|---|---|---|---|---|"]
    rows += [f"| {k} | {t.planted} | {t.refused} | {t.named} | {'; '.join(t.missed[:3])} |" for k, t in kinds.items()]
    return [*rows, ""]


def export_table(by_export: dict[str, Tally], clean: list[Result], refused: dict[str, str]) -> list[str]:
    rows = ["| export | clean | changed without harm, pass | faults | refused | named |", "|---|---|---|---|---|---|"]
    for n in sorted({*by_export, *(r["export"] for r in clean)}):
        t, mine = by_export.get(n, Tally()), [r for r in clean if r["export"] == n]
        own = next((r for r in mine if r["kind"] == "clean"), None)
        said = "not judged" if own is None else f"REFUSED: {short(own['text'])}" if own["refused"] else "passes"
        more = [r for r in mine if r["kind"] != "clean"]
        harmless = f"{sum(not r['refused'] for r in more)} of {len(more)}"
        rows.append(f"| {n} | {said} | {harmless} | {t.planted} | {t.refused} | {t.named} |")
    return [*rows, "", *(f"- not made: {n}: {short(why)}" for n, why in sorted(refused.items()))]


def short(text: str) -> str:
    """One line without the folders of this machine."""
    return re.sub(r"/[^\s\"]+/", "", " ".join(text.split()))[:220].replace("|", "/")
