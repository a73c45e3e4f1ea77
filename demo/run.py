"""`make demo`: from nothing to a checked champion, on a machine with Python 3.11 and no GPU.

    python3.11 demo/run.py [--budget-minutes 12]

Standard library only: it makes the environment that everything else runs in. What is missing is named before anything
is downloaded. Every step is timed, and download apart from work.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BIN = ROOT / ".venv/bin"
GROWN = ROOT / ".demo/model"
LAYERS = "12"


@dataclass(frozen=True)
class Step:
    """One command with the words that announce it."""

    name: str
    argv: Sequence[str]


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def run(step: Step) -> float:
    """Run it, show its output, give the seconds it took. Leaves with its exit code when it fails."""
    say(f"== {step.name}")
    began = time.monotonic()
    env = {
        **os.environ,
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
        "PYTHONUNBUFFERED": "1",
    }
    code = subprocess.run(list(step.argv), cwd=ROOT, env=env).returncode
    if code != 0:
        say(f"{step.name} ended with {code}; mend it and run `make demo` again, what is done stays done")
        sys.exit(code)
    return time.monotonic() - began


def preflight() -> None:
    """Name what is missing before anything is downloaded; needs only this Python."""
    argv = [sys.executable, "-m", "profile_and_optimize.toolenv.preflight"]
    code = subprocess.run(argv, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}).returncode
    if code != 0:
        sys.exit(code)


def tool_python() -> str:
    """The Python of the vLLM tool environment, for growing the model."""
    code = "from profile_and_optimize.toolenv.find import find; print(find('vllm').python)"
    return subprocess.run([str(BIN / "python"), "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def environment() -> list[Step]:
    pip = [str(BIN / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-e", "."]
    return [
        Step("make .venv", [sys.executable, "-m", "venv", str(ROOT / ".venv")]),
        Step("install profile-and-optimize", pip),
    ]


def real(budget_minutes: float, times: dict[str, float]) -> list[str]:
    """The demo on vLLM: the command line of the campaign, after the tool environment and the model are there."""
    step = Step("install the vLLM tool environment", [str(BIN / "pao"), "tools", "install", "vllm"])
    times[step.name] = run(step)
    grow = [
        tool_python(),
        "-m",
        "demo.grow",
        "--model",
        "demo/model",
        "--out",
        str(GROWN),
        "--layers",
        LAYERS,
        "--check",
        "40",
    ]
    times["grow the demo model"] = run(Step("grow the demo model (same answers, more work)", grow))
    return [
        str(BIN / "pao"), "optimize", "--model", str(GROWN), "--engines", "vllm", "--focus", "throughput", "--name", "demo",
        "--budget-minutes", f"{budget_minutes:g}", "--questions", "demo/heldout.jsonl", "--suite", "demo-short",
        "--max-arms", "3",  # one lever: the blocks that this buys answer more than a second lever would
    ]  # fmt: skip


def mock(budget_minutes: float) -> list[str]:
    say("no vLLM for CPU exists on this system: this demo runs on the MOCK engine; its numbers are made, not measured")
    minutes = f"{min(2.0, budget_minutes):g}"
    return [
        str(BIN / "pao"),
        "optimize",
        "--model",
        "mock",
        "--engines",
        "mock",
        "--name",
        "demo-mock",
        "--suite",
        "demo-short",
        "--budget-minutes",
        minutes,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budget-minutes", type=float, default=12.0, help="for the campaign, admission included")
    args = parser.parse_args()
    on_mock = platform.system() == "Darwin"
    if not on_mock:
        preflight()
    times = {step.name: run(step) for step in environment()}
    campaign = mock(args.budget_minutes) if on_mock else real(args.budget_minutes, times)
    times["pao optimize"] = run(Step("pao optimize", campaign))
    say("== times")
    for name, seconds in times.items():
        print(f"{seconds:8.0f} s  {name}")
    print(f"{sum(times.values()):8.0f} s  together (downloads are stated apart above)")


if __name__ == "__main__":
    main()
