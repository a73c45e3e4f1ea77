"""Two engines, both orders: does the call hang on who comes first, or on the seed?

    python bench/cross_engine.py --model DIR [--engines vllm,sglang] [--suite demo] [--blocks 4] [--out bench/results]

Runs `pao optimize` over the engines' own defaults, once in each order with seeds of their own, on this machine, and then
`pao verify`. The answer holds when the two calls are each other's mirror and the same arm is picked. Needs a machine that
does nothing else; about half an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIRROR = {"BETTER": "WORSE", "WORSE": "BETTER", "SAME": "SAME", "UNKNOWN": "UNKNOWN"}
PAO = Path(sys.executable).with_name("pao")


@dataclass(frozen=True)
class Ran:
    """One campaign: its first engine, what the other was called against it, and whether everything holds."""

    first: str
    seed: int
    result: dict[str, Any]
    verified: bool
    minutes: float

    @property
    def other(self) -> dict[str, Any]:
        return next(a for a in self.result["arms"] if a["engine"] != self.first)

    @property
    def picked(self) -> str:
        """The engine of the pick."""
        return next(a["engine"] for a in self.result["arms"] if a["cell"] == self.result["pick"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--engines", default="vllm,sglang")
    parser.add_argument("--suite", default="demo")
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--questions")
    parser.add_argument("--keep", type=Path, help="folder for the runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    one, two = asked.engines.split(",")
    with tempfile.TemporaryDirectory(prefix="pao-across-") as scratch:
        space = asked.keep or Path(scratch)
        ran = [campaign(asked, space, (one, two), 101), campaign(asked, space, (two, one), 202)]
    text = table(asked, ran)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"cross_engine-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    return 0 if holds(ran) else 1


def campaign(asked: argparse.Namespace, space: Path, engines: tuple[str, str], seed: int) -> Ran:
    began = time.monotonic()
    more = [f"--{n}={v}" for n in ("concurrency", "questions") if (v := getattr(asked, n)) is not None]
    argv = [
        str(PAO), "optimize", "--model", str(Path(asked.model).resolve()), "--engines", ",".join(engines),
        "--suite", asked.suite, "--max-arms", "3", "--blocks", str(asked.blocks), "--seed", str(seed),
        "--name", "-".join(engines), "--campaigns-dir", str(space), "--budget-minutes", "600", "--json", *more,
    ]  # fmt: skip
    print(" ".join(argv), file=sys.stderr, flush=True)
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True)
    answer = json.loads(done.stdout)
    if not answer["ok"]:
        raise SystemExit(f"{engines}: {answer['error']}")
    result = answer["result"]
    verified = subprocess.run([PAO, "verify", result["path"]], stdout=subprocess.DEVNULL).returncode == 0
    return Ran(engines[0], seed, result, verified, (time.monotonic() - began) / 60)


def holds(ran: list[Ran]) -> bool:
    forth, back = (r.other["effect"]["call"] for r in ran)
    # A tie goes to the incumbent, which is another one each time; UNKNOWN twice is no answer.
    picked = forth == "SAME" or len({r.picked for r in ran}) == 1
    return back == MIRROR[forth] and forth != "UNKNOWN" and picked and all(r.verified for r in ran)


def table(asked: argparse.Namespace, ran: list[Ran]) -> str:
    lines = [
        "# Two engines, both orders", "",
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}; "
        f"suite {asked.suite}, at most {asked.blocks} blocks, engines' own defaults.", "",
        "| incumbent | seed | other engine | call | effect | blocks | pick | tier | engines matched | verify | min |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in ran:
        e = r.other["effect"]
        known = e["estimate"] is not None
        effect = (
            f"{e['estimate']:+.1%} ({e['lower']:+.1%} to {e['upper']:+.1%})" if known else f"unknown: {e['reason']}"
        )
        (matched,) = [g for g in r.result["gates"] if g["name"] == "engines matched"]
        lines.append(
            f"| {r.first} | {r.seed} | {r.other['engine']} | {e['call']} | {effect} | {e['blocks']} | {r.picked} | {r.result['tier']} | "
            f"{matched['passed']}: {matched['reason']} | {'holds' if r.verified else 'DOES NOT HOLD'} | {r.minutes:.1f} |"
        )
    opened = sorted({f"{g['name']}: {g['reason']}" for r in ran for g in r.result["gates"] if g["passed"] is not True})
    lines += ["", *(f"- not passed: {line}" for line in opened)]
    return (
        "\n".join(
            [
                *lines,
                "",
                f"- {'PASS' if holds(ran) else 'FAIL'} the order of engines and the seed do not change the call.",
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
