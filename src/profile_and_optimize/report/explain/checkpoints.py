"""The numbers of the checkpoints: size, distance from the base, medians, and ours against the vendor's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from profile_and_optimize.analysis.decide import used_trials
from profile_and_optimize.analysis.three_way import three_way
from profile_and_optimize.report.explain.number import Case, Number, Place, Story, Value, rests, shown
from profile_and_optimize.report.quantized import CheckpointRow

STORE = "quant_compare.json"
# Field of the stored row, the metric it is the median of.
MEDIANS = {"tpot_ms_median": "tpot", "output_throughput_tok_s_median": "output_throughput"}


def numbers(case: Case) -> Iterator[Number]:
    found = three_way(case.ev, case.d)
    if found is None or case.view.quantized is None:
        return
    for stored, row in zip(found["rows"], case.view.quantized.rows, strict=True):
        yield from _of_row(case, stored, row)
    for name, effect in found["between"].items():
        if effect is not None:
            place = (Place(STORE, ("between", name, "estimate"), effect["estimate"]),)
            yield Number(f"between.{name}", _percent(effect["estimate"]), f"{name}, on the primary endpoint",
                         partial(_between, case, name, effect), place)  # fmt: skip


def _of_row(case: Case, stored: Mapping[str, Any], row: CheckpointRow) -> Iterator[Number]:
    arm, at = stored["cell"], ("rows", ("cell", stored["cell"]))
    if stored["role"] != "base":
        place = (Place(STORE, (*at, "size_ratio"), stored["size_ratio"]),)
        yield Number(
            f"checkpoint.{arm}.size", row.size, f"bytes of {arm} to the base's", partial(_size, case, arm), place
        )
        kl = (stored["kl_base"] or {}).get("reloaded")
        where = (Place(STORE, (*at, "kl_base", "reloaded"), kl),) if kl is not None else ()
        yield Number(
            f"checkpoint.{arm}.kl", row.kl, f"KL of {arm}, reloaded, to the base", partial(_kl, case, arm), where
        )
    for field, metric in MEDIANS.items():
        text = row.tpot if metric == "tpot" else row.rate
        yield Number(f"checkpoint.{arm}.{metric}", text, f"median {metric} of {arm} over its trials that count",
                     partial(_median, case, arm, metric), (Place(STORE, (*at, field), stored[field]),))  # fmt: skip


def _size(case: Case, arm: str) -> Story:
    kept = case.ev.checkpoints.get(arm, {})
    size, base = kept.get("checkpoint", {}).get("bytes"), kept.get("base_bytes")
    return Story(
        (f"size = bytes of its safetensors / bytes of the base's = {size} / {base}",),
        values=(Value("size", size, "bytes"), Value("base", base, "bytes")), files=(f"cells/{arm}/raw/checkpoint.json",), arms=(arm,),
    )  # fmt: skip


def _kl(case: Case, arm: str) -> Story:
    return Story(
        (
            "KL(base || reloaded checkpoint), mean over the held-out tokens, in nats",
            "measured once, when the checkpoint was made, by its own round trip; the run keeps what that wrote down",
        ),
        files=(f"cells/{arm}/raw/checkpoint.json",), arms=(arm,), see=(f"accuracy.{arm}.loss",) if arm in case.ev.accuracy else (),
    )  # fmt: skip


def _median(case: Case, arm: str, metric: str) -> Story:
    mine = [t for t in used_trials(case.d.selection) if t.key.arm == arm]
    return Story(
        ("the median over trials of what each trial gives; descriptive, the effect carries the comparison",),
        trials=rests(mine, lambda t: shown(t.summary.value(metric))), arms=(arm,), see=(f"effect.{arm}",),
    )  # fmt: skip


def _between(case: Case, name: str, effect: Mapping[str, Any]) -> Story:
    ours, theirs = name.split(" over ")
    return Story(
        (
            f"the mean over blocks of log(y of {ours}) - log(y of {theirs}), both in the same block; one more claim of the family",
            f"interval {_percent(effect['lower'])} to {_percent(effect['upper'])}: {effect['call']}, {effect['reason']}",
        ),
        arms=(ours, theirs), see=(f"effect.{ours}", f"effect.{theirs}"),
    )  # fmt: skip


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1%}"
