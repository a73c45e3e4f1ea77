"""What starts the pick: serve.sh, the same as data, and the known-good configuration."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from profile_and_optimize.analysis.atlas import rows as atlas_rows
from profile_and_optimize.analysis.decide import Decision, effect_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.code_settings import EVERY_ARM, bring_code, code_settings
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.redact import HIDDEN
from profile_and_optimize.report.arms import effect_of
from profile_and_optimize.report.view import code_lines, place_of
from profile_and_optimize.report.words import plain, stamp_words, verify_command

PORT = "PORT"


def serve_script(ev: Evidence, d: Decision) -> str:
    """A bash script that becomes the pick's server; for an arm that we do not start, one that says so and fails."""
    command = ev.commands.get(d.pick, {})
    argv = list(command.get("argv", ()))
    lines = [*_header(ev, d), "set -euo pipefail", ""]
    return "\n".join(lines + (_start(command, argv) if argv else _nothing(ev, d))) + "\n"


def _header(ev: Evidence, d: Decision) -> list[str]:
    return [
        "#!/usr/bin/env bash", f"# {d.pick}: the pick of {plain(ev.run.name)}, tier {d.tier.value}",
        f"# model: {plain(ev.plan.model_of(ev.plan.arm(d.pick)))}", f"# evidence root: {ev.root}",
        f"# check it: {verify_command(ev.run.name)}",
        "# Measured on one node under one load; CHAMPION.md says which.",
        *(f"# runs code of its own: {line}" for line in code_lines(ev.plan)),
    ]  # fmt: skip


def _start(command: Mapping[str, Any], argv: Sequence[str]) -> list[str]:
    env = [_export(k, str(v)) for k, v in sorted(dict(command.get("env", {})).items())]
    cores = ",".join(str(int(c)) for c in command.get("cores", ()))
    # The same cores as when it was measured; CORES="" leaves the choice to the system.
    pin = ["PIN=()", f'if [ -n "${{CORES-{cores}}}" ]; then PIN=(taskset -c "${{CORES-{cores}}}"); fi'] if cores else []
    words = " ".join(quoted(argv))
    start = f'exec ${{PIN[@]+"${{PIN[@]}}"}} {words}' if cores else f"exec {words}"
    return [*_redacted(command), "PORT=${PORT:-8000}", *env, *pin, start]


def quoted(argv: Sequence[str]) -> list[str]:
    """Every argument quoted for the shell; the port's placeholder becomes the variable.

    Only the word after `--port` is the port where there is one: a model may be named PORT.
    """
    after = {i + 1 for i, a in enumerate(argv) if a == "--port"}
    ports = {i for i, a in enumerate(argv) if a == PORT and (i in after or not after)}
    return ['"$PORT"' if i in ports else word(a) for i, a in enumerate(argv)]


def word(text: str) -> str:
    """One word of bash. What a terminal would act on when the script is read is spelled out byte by byte."""
    if text.isprintable():
        return shlex.quote(text)
    spelled = (c if c.isprintable() and c not in "'\\" else "".join(f"\\x{b:02x}" for b in c.encode()) for c in text)
    return f"$'{''.join(spelled)}'"


def _export(key: str, value: str) -> str:
    """An export; a name the shell cannot export would be code, so it is named in a comment instead."""
    if not (key.isascii() and key.isidentifier()):
        return f"# left out, not a name a shell can export: {plain(key)}"
    return f"export {key}={word(value)}"


def _redacted(command: Mapping[str, Any]) -> list[str]:
    """A command with a hidden secret cannot be started as it stands; the script says so rather than sending the stand-in."""
    values = [*command.get("argv", ()), *dict(command.get("env", {})).values()]
    if not any(HIDDEN in str(v) for v in values):
        return []
    text = f"a value below was {HIDDEN} when it was recorded: put your own there and remove these two lines"
    return [f"printf '%s\\n' {shlex.quote(text)} >&2", "exit 1"]


def _nothing(ev: Evidence, d: Decision) -> list[str]:
    arm = ev.plan.arm(d.pick)
    what = (
        f"{arm.id} is an endpoint that somebody else runs"
        if arm.engine == "endpoint"
        else f"no command of {arm.id} was kept"
    )
    text = plain(f"{what}{': ' + arm.url if arm.url else ''}; there is nothing to start")
    return [f"printf '%s\\n' {shlex.quote(text)} >&2", "exit 1"]


def serve_manifest(ev: Evidence, d: Decision) -> dict[str, Any]:
    """serve.sh as data."""
    command, arm = ev.commands.get(d.pick, {}), ev.plan.arm(d.pick)
    return {
        "schema": 1, "run_id": ev.run.name, "pick": d.pick, "tier": d.tier.value, "model": ev.plan.model_of(arm),
        "engine": arm.engine, "url": arm.url or None, "argv": list(command.get("argv", ())), "port_placeholder": PORT,
        "env": dict(command.get("env", {})), "cores": list(command.get("cores", ())),
        "engine_context": _context(ev, d), "evidence_root": ev.root,
    } | _code(ev.plan, arm)  # fmt: skip


def known_good(ev: Evidence, d: Decision) -> dict[str, Any]:
    """known_good_config.json: the pick's own configuration with the effect that carries it."""
    plan, arm, context = ev.plan, ev.plan.arm(d.pick), _context(ev, d)
    place = place_of(plan, d, atlas_rows(ev, d))
    return {
        "schema": 1, "run_id": ev.run.name, "model": plan.model, "model_context": _of_kind(context, MODEL_FIELDS),
        "hardware": place.hardware, "node": place.node, "engine": arm.engine, "engine_context": _of_kind(context, ENGINE_FIELDS),
        "pick": d.pick, "baseline": plan.baseline.id, "flags": [*plan.common_flags, *arm.flags],
        "env": {**dict(plan.common_env), **dict(arm.env)}, **_checkpoint(plan, arm), "suite": plan.suite, "focus": plan.focus,
        "primary_endpoint": list(plan.primary), "effect": effect_json(effect_of(d, d.pick)), "tier": d.tier.value,
        "open_gates": [g.to_json() for g in d.open_gates], "evidence_root": ev.root, "stamp": stamp_words(ev.stamp),
        "stamp_unix_s": ev.stamp,
    } | _code(plan, arm)  # fmt: skip


def _code(plan: Plan, arm: Arm) -> dict[str, Any]:
    """Settings of this arm that bring code, each with who allowed it; no key where there are none."""
    by = dict(plan.code_allowed)
    found = (*bring_code(plan.common_flags, plan.common_env, EVERY_ARM), *code_settings(arm))
    told = [{"name": s.name, "where": s.where, "allowed_by": by.get(s.name, "nobody is on record")} for s in found]
    return {"brings_code": told} if told else {}


def _checkpoint(plan: Plan, arm: Arm) -> dict[str, dict[str, str]]:
    """What is served in the model's place; nothing for the model itself."""
    return {"checkpoint": {"folder": arm.checkpoint, "digest": plan.digest_of(arm)}} if arm.checkpoint else {}


MODEL_FIELDS = (
    "model",
    "served_model",
    "base_model_digest",
    "checkpoint_digest",
    "quantization",
    "dtype",
    "kv_cache_dtype",
)
ENGINE_FIELDS = ("engine", "engine_version", "engine_lock", "delivery", "source_commit", "tp", "dp", "pp", "ep")


def _of_kind(context: Mapping[str, Mapping[str, str]], names: Sequence[str]) -> dict[str, dict[str, str]]:
    nothing = {"asked": "unknown", "observed": "unknown"}
    return {n: {k: context.get(n, nothing)[k] for k in ("asked", "observed")} for n in names}


def _context(ev: Evidence, d: Decision) -> dict[str, dict[str, str]]:
    """The pick's context at the first workload; {} when no whole block holds it."""
    return next((r["context"] for r in atlas_rows(ev, d) if r["cell"] == d.pick), {})
