"""`make demo`: from nothing to a checked champion, on a machine with Python 3.11 and no GPU.

    python3.11 demo/run.py [--budget-minutes 15]

Standard library only: it makes the environment that everything else runs in. What is missing is named before anything
is downloaded. One second is measured first: model, data type, requests and questions are as large as this machine gets through
in the budget, and what is left out is listed before anything starts. Every step is timed, and download apart from work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from demo.sizing import GROW_S, REPORT_S, Sizes, Speed, measure, plan, plan_lines  # noqa: E402

BIN = ROOT / ".venv/bin"
GROWN = ROOT / ".demo/model"
QUESTIONS, ASKED = ROOT / "demo/heldout.jsonl", ROOT / ".demo/questions.jsonl"
TIMES = ROOT / ".demo/times.json"
BUDGET_MINUTES = 15.0
# A first start that compiles may take so many times what is expected before every variant is started without.
SLOW = 1.25


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


def installed(times: dict[str, float]) -> float:
    """Installs vLLM; the seconds of it that were downloads."""
    step, began = Step("install the vLLM tool environment", [str(BIN / "pao"), "tools", "install", "vllm"]), time.time()
    times[step.name] = run(step)
    return downloaded_s(Path(tool_python()).parents[1] / "pao-tool.json", began)


def downloaded_s(marker: Path, began: float) -> float:
    """As the tool environment's own record has it; 0 for an environment that was there before."""
    if not marker.is_file() or marker.stat().st_mtime < began:
        return 0.0
    return float(json.loads(marker.read_text())["download"]["seconds"])


def grown(sizes: Sizes, times: dict[str, float]) -> None:
    """The model and the questions of these sizes."""
    argv = [
        tool_python(), "-m", "demo.grow", "--model", "demo/model", "--out", str(GROWN), "--layers", str(sizes.layers),
        "--min-parameters", str(sizes.parameters), "--check", "40",
    ]  # fmt: skip
    times["grow the demo model"] = run(Step("grow the demo model (same answers, more work)", argv))
    if sizes.questions:
        spread(QUESTIONS, ASKED, sizes.questions)


def again(first: Sizes, budget_s: float) -> tuple[Speed, Sizes]:
    """The sizes for the seconds that are left once all is installed, by a second measurement; said where they are others."""
    speed = measure()
    sizes = plan(speed, budget_s, GROW_S)
    if replace(sizes, parts=first.parts) != first:
        say("measured again, now that all is installed: another plan")
        for line in plan_lines(speed, sizes, budget_s):
            say(line)
    return speed, sizes


def command(sizes: Sizes, campaign_s: float, cold_s: float) -> list[str]:
    """`pao optimize` at these sizes: one lever, since the blocks that this buys answer more than a second lever would."""
    start = ["--engine-flags", " ".join(sizes.flags)] if sizes.flags else []
    late = [] if sizes.eager else ["--eager-after-s", f"{SLOW * cold_s:.0f}"]
    asked = ["--questions", str(ASKED.relative_to(ROOT))] if sizes.questions else []
    return [
        str(BIN / "pao"), "optimize", "--model", str(GROWN.relative_to(ROOT)), "--engines", "vllm", "--focus", "throughput",
        "--name", "demo", "--budget-minutes", f"{campaign_s / 60:.2f}", "--suite", "demo-short", "--requests", str(sizes.requests),
        "--levers", sizes.lever, "--max-arms", "3", *asked, *(f"{k}={v}" for k, v in zip(start[::2], start[1::2], strict=True)), *late,
    ]  # fmt: skip


def spread(source: Path, to: Path, count: int) -> None:
    """The first `count` questions, as many of every kind."""
    kinds: dict[str, list[str]] = {}
    for line in source.read_text().splitlines(keepends=True):
        kinds.setdefault(json.loads(line)["kind"], []).append(line)
    to.parent.mkdir(parents=True, exist_ok=True)
    turns = [line for turn in zip(*kinds.values(), strict=True) for line in turn]
    to.write_text("".join(turns[:count]))


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


def keep_times(times: dict[str, float], speed: Speed, sizes: Sizes, budget_minutes: float) -> None:
    """For `demo/readme.py` and `bench/demo.py`: what was planned, how long it took, and which run it made."""
    run_path = max((ROOT / "campaigns").glob("*Z-demo"))
    kept = {
        "date": time.strftime("%Y-%m-%d", time.gmtime()), "run": str(run_path.relative_to(ROOT)), "times": times,
        "machine": speed.words(), "python": platform.python_version(), "budget_minutes": budget_minutes,
        "expected_s": sizes.seconds, "sizes": asdict(sizes), "left_out": list(sizes.left_out),
    }  # fmt: skip
    TIMES.write_text(json.dumps(kept, indent=1) + "\n")


def sized(budget_s: float) -> Sizes:
    """What this machine gets through, with the plan printed."""
    speed = measure()
    sizes = plan(speed, budget_s)
    for line in plan_lines(speed, sizes, budget_s):
        say(line)
    return sizes


def on_vllm(first: Sizes, budget_minutes: float, times: dict[str, float]) -> None:
    """From the tool environment to the finished run, within what is left of the budget."""
    downloads = installed(times)

    def left() -> float:
        return budget_minutes * 60 + downloads - sum(times.values())

    speed, sizes = again(first, left())
    grown(sizes, times)
    campaign_s = max(60.0, left() - REPORT_S / speed.factor)
    times["pao optimize"] = run(Step("pao optimize", command(sizes, campaign_s, speed.cold_start_s)))
    keep_times(times, speed, sizes, budget_minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--budget-minutes", type=float, default=BUDGET_MINUTES, help="for everything but downloads; default: 15"
    )
    parser.add_argument("--plan", action="store_true", help="print what would be measured here, and end")
    args = parser.parse_args()
    on_mock = platform.system() == "Darwin"
    if not on_mock:
        preflight()
        sizes = sized(args.budget_minutes * 60)
    if args.plan:
        return
    times = {step.name: run(step) for step in environment()}
    if on_mock:
        times["pao optimize"] = run(Step("pao optimize", mock(args.budget_minutes)))
    else:
        on_vllm(sizes, args.budget_minutes, times)
    say("== times")
    for name, seconds in times.items():
        print(f"{seconds:8.0f} s  {name}")
    print(f"{sum(times.values()):8.0f} s  together (downloads are stated apart above)")


if __name__ == "__main__":
    main()
