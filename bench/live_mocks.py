"""Whole campaigns against mock servers that make noise of a known size, through the command line like anybody's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import tempfile
from pathlib import Path

import yaml

from profile_and_optimize.cli.main import run as pao

ACK = "--i-understand-this-submits-jobs"
ITL_MS, NOISE = 2.0, 0.03


def campaigns(count: int, seed: int) -> list[dict[str, object]]:
    """Half of them with two equal candidates, half with one 10% faster in tpot. Nobody waits for a quiet machine: the noise
    is the mock's own, and a busy one only adds to it."""
    os.environ["PAO_QUIET_WAIT_S"] = "0"
    return [one(i, 0.0 if i % 2 == 0 else 0.10, seed + i) for i in range(count)]


def one(number: int, gain: float, seed: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory(prefix="pao-live-mocks-") as scratch:
        space = Path(scratch)
        file = space / "live.yaml"
        file.write_text(yaml.safe_dump(config(gain, seed)))
        where = ("--campaigns-dir", str(space))
        answer = io.StringIO()
        with contextlib.redirect_stdout(answer), contextlib.redirect_stderr(io.StringIO()):
            codes = [pao(["campaign_init", "--config", str(file), *where]), pao(["campaign_run", "live", ACK, *where])]
            answer.truncate(0)
            answer.seek(0)
            codes.append(pao(["champion_select", "live", "--json", *where]))
        found = json.loads(answer.getvalue())["result"]
        with contextlib.redirect_stdout(io.StringIO()):
            codes.append(pao(["verify", "live", *where]))
    calls = {a["cell"]: a["effect"]["call"] for a in found["arms"] if a["role"] == "candidate"}
    wrong = [c for c, call in calls.items() if call == "BETTER" and not (c == "changed" and gain > 0)]
    print(f"live {number}: gain {gain:.0%} {calls} exit codes {codes}", flush=True)
    return {
        "truth": f"{gain:.0%}", "calls": ", ".join(f"{c} {call}" for c, call in calls.items()), "wrong_better": wrong,
        "blocks": len(found["blocks"]["whole"]), "verify": "holds" if codes[-1] == 0 else f"exit {codes[-1]}",
    }  # fmt: skip


def config(gain: float, seed: int) -> dict[str, object]:
    def flags(itl: float) -> list[str]:
        """Without a seed: the noise is new in every session. A fixed one would replay, and so be a true difference."""
        return ["--ttft-ms", "10", "--itl-ms", f"{itl:g}", "--noise", str(NOISE)]

    cells = [
        {"cell_id": "base", "role": "baseline", "flags": flags(ITL_MS)},
        {"cell_id": "base-again", "role": "aa", "flags": flags(ITL_MS)},
        {"cell_id": "like", "flags": flags(ITL_MS)},
        {"cell_id": "changed", "flags": flags(ITL_MS / (1 + gain))},
    ]
    return {
        "name": "live", "model": "mock", "engine": "mock", "focus": "latency", "blocks": 5, "concurrencies": [4],
        "requests": 24, "seed": seed,
        "workloads": [{"name": "short", "isl": 32, "osl": 32}], "cells": cells,
    }  # fmt: skip
