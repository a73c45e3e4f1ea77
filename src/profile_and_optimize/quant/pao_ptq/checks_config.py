"""Checks of the written configuration against the tensors."""

from __future__ import annotations

import fnmatch
import math
import re
from typing import Any

from .evidence import Check, Evidence, fail
from .headers import weights_digest
from .names import key, module_of
from .reading import BY_ONE
from .speaks import sha256


def exclude_exact(ev: Evidence) -> Check:
    """The written list names what is not quantized, all of it and nothing else."""
    name = "exclude-exact"
    lists = {"config.json": (ev.config.get("quantization_config") or {}).get("ignore")}
    if ev.quant_config is not None:
        lists["hf_quant_config.json"] = ev.quant_config.get("quantization", {}).get("exclude_modules")
    bad: list[str] = []
    for file, entries in lists.items():
        bad += [
            f"{file}: {fault}"
            for fault in (_list_faults(ev, entries) if isinstance(entries, list) else ["no list of excludes"])
        ]
    if bad:
        return fail(name, "the list of excludes is not the list of what is unquantized", bad)
    if len(lists) == 2 and len({frozenset(v or ()) for v in lists.values()}) > 1:
        return fail(name, "config.json and hf_quant_config.json exclude different modules", [])
    return Check(name, True, f"{len(lists['config.json'] or [])} entries, each an unquantized module, none missing")


def _list_faults(ev: Evidence, entries: list[str]) -> list[str]:
    plain = {module_of(n) for n, t in ev.plain.items()}
    plain |= {a for pair in ev.facts.tied for a in (pair[0], pair[1], module_of(pair[0]), module_of(pair[1]))}
    quantized = {module_of(n) for n in ev.packed}
    exact = (ev.config.get("quantization_config") or {}).get("quant_method") == "compressed-tensors"
    faults = []
    for entry in entries:
        if any(ord(c) < 32 or ord(c) == 127 for c in entry):
            faults.append(f"{entry!r} holds a control character")
        elif not any(_names(entry, m) for m in plain):
            faults.append(f"{entry!r} matches no unquantized tensor")
        else:
            faults += [
                f"{entry!r} also matches {m}, which is quantized"
                for m in sorted(quantized)
                if _names(entry, m, exact=exact)
            ][:2]
    for module in sorted(must_be_listed(ev)):
        if not any(_names(entry, module, exact=exact) for entry in entries):
            faults.append(f"{module} is not quantized and not listed")
    return faults


def must_be_listed(ev: Evidence) -> set[str]:
    """Matrices that an engine would take for quantized: unquantized modules recorded as such, by their names in the file."""
    recorded = {key(n) for n in ev.facts.unquantized} | {
        key(m.name) for m in ev.facts.modules if m.kind in ("linear", "lm_head") and not m.quantized
    }
    there = {module_of(n) for n, t in ev.plain.items() if len(t.shape) == 2 and n.endswith(".weight")}
    tied = {
        n for pair in ev.facts.tied for n in map(module_of, pair)
    }  # without a tensor of its own, it is run all the same
    return {module for module in there if key(module) in recorded} | {n for n in tied if key(n) in recorded}


def _names(entry: str, module: str, *, exact: bool = False) -> bool:
    """An entry as engines read it: a module, one it is in, a pattern with stars. With compressed-tensors (`exact`) the
    module itself alone, or `re:` and an expression."""
    if entry.startswith("re:"):
        return re.match(entry[3:], module) is not None
    if entry == module or exact:
        return entry == module
    return module.startswith(entry + ".") or fnmatch.fnmatchcase(module, entry)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def excused(codes: Any, limit: float) -> bool:
    """Written codes that are neighbours of those of the model in process, and with those the model in process."""
    if not isinstance(codes, dict) or not all(
        _number(codes.get(k)) for k in ("off_by_one", "off_by_more", "kl_recoded")
    ):
        return False
    return codes["off_by_more"] == 0 and codes["off_by_one"] <= BY_ONE and codes["kl_recoded"] <= limit


def round_trip(ev: Evidence) -> Check:
    """The export, read back by another path, answers as the model did before it was written."""
    name, r = "roundtrip", ev.roundtrip
    if r is None:
        return Check(name, None, "no roundtrip.json: run the step roundtrip first")
    if r.get("weights_sha256") != weights_digest(ev.folder):
        return fail(name, "roundtrip.json was made of other weights than those here: run the step roundtrip again", [])
    if r.get("config_sha256") != sha256(ev.folder / "config.json"):
        return fail(name, "roundtrip.json was made with another config.json: run the step roundtrip again", [])
    if not all(
        _number(v)
        for v in (r.get("kl_in_process_reloaded"), r.get("kl_limit"), *(r.get("kl_base") or {0: None}).values())
    ):
        return fail(
            name,
            "roundtrip.json holds no finite KL divergence",
            [f"{r.get('kl_in_process_reloaded')}, {r.get('kl_base')}"],
        )
    if r.get("passed") is not True or not r.get("tokens"):
        return fail(name, r.get("reason") or "it did not pass", [f"limit: {r.get('limit')}"])
    if r["kl_in_process_reloaded"] > r["kl_limit"] and not excused(r.get("codes"), r["kl_limit"]):
        return fail(
            name,
            "roundtrip.json passed over its own limit",
            [f"{r['kl_in_process_reloaded']:.3g}, limit {r['kl_limit']:.3g}"],
        )
    return Check(
        name, True, f"KL {r['kl_in_process_reloaded']:.2g} to the model before it was written, on {r['tokens']} tokens"
    )
