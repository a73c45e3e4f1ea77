"""What does it cost to start `pao`, when there is nothing to measure?

    python bench/startup.py [--runs 10] [--run RUN] [--out bench/results]

CPU seconds (user and system, children too) of whole processes: the version, the help, one Tab, and verbs that read, beside a
Python that does nothing and the command lines of peers that are installed here. CPU seconds and not wall time, so that a
machine with something else to do changes them less; the smallest of the runs is nearest to what the work costs.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize import __version__
from profile_and_optimize.testing.forge import publish
from profile_and_optimize.testing.synthetic import synthetic_run
from profile_and_optimize.toolenv.find import default_root, find_all

LIGHT_S, READS_S = 0.15, 0.5
PAO = str(Path(sys.executable).with_name("pao"))


@dataclass(frozen=True)
class Call:
    """`bar_s` is the most that it may cost, None where there is no bar."""

    name: str
    argv: tuple[str, ...]
    bar_s: float | None = None
    env: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Cost:
    call: Call
    least_s: float
    median_s: float

    @property
    def holds(self) -> bool:
        return self.call.bar_s is None or self.least_s < self.call.bar_s


def calls(run: Path) -> list[Call]:
    tab = (("PAO_COMPLETE", "bash_complete"), ("COMP_WORDS", "pao verify --"), ("COMP_CWORD", "2"))
    return [
        Call("python -c pass", (sys.executable, "-c", "pass")),
        Call("pao --version", (PAO, "--version"), LIGHT_S),
        Call("pao --help", (PAO, "--help"), LIGHT_S),
        Call("pao", (PAO,), LIGHT_S),
        Call("pao verify --<Tab>", (PAO,), LIGHT_S, tab),
        Call("pao verfiy (misspelt)", (PAO, "verfiy"), LIGHT_S),
        Call("pao workloads --offline", (PAO, "workloads", "--offline"), READS_S),
        Call("pao levers --engines mock", (PAO, "levers", "--engines", "mock"), READS_S),
        Call("pao verify RUN (24 trials)", (PAO, "verify", str(run)), READS_S),
        *peers(),
    ]


def peers() -> list[Call]:
    """The command lines of this field that are here: in the tool environments, or beside this Python."""
    tools = {name: str(env.python) for name, env in find_all(default_root()).items() if env is not None}
    found = []
    if python := tools.get("vllm"):
        found.append(Call("vllm --version", (str(Path(python).with_name("vllm")), "--version")))
        found.append(Call("vllm bench serve --help", (str(Path(python).with_name("vllm")), "bench", "serve", "--help")))
    if python := tools.get("sglang"):
        found.append(Call("sglang.bench_serving --help", (python, "-m", "sglang.bench_serving", "--help")))
    if python := tools.get("eval"):
        found.append(Call("lm_eval --help", (python, "-m", "lm_eval", "--help")))
    for name in ("aiperf", "guidellm"):
        if python := tools.get(name):
            found.append(Call(f"{name} --version", (str(Path(python).with_name(name)), "--version")))
    beside = [Path(sys.executable).with_name(name) for name in ("hf", "pip")]
    return found + [Call(f"{path.name} --help", (str(path), "--help")) for path in beside if path.exists()]


def cost(call: Call, runs: int) -> Cost:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | dict(call.env)
    seconds = [_cpu_s(call.argv, env) for _ in range(runs + 1)][1:]  # the first writes the compiled files
    return Cost(call, min(seconds), statistics.median(seconds))


def _cpu_s(argv: tuple[str, ...], env: Mapping[str, str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(argv, env=dict(env), stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def page(costs: list[Cost], runs: int) -> str:
    where = f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    rows = [
        f"| `{c.call.name}` | {c.least_s:.3f} | {c.median_s:.3f} | "
        + ("" if c.call.bar_s is None else f"< {c.call.bar_s:g}: {'holds' if c.holds else 'DOES NOT HOLD'}")
        + " |"
        for c in costs
    ]
    head = [
        f"# What a start costs, {time.strftime('%Y-%m-%d')}",
        "",
        f"`python bench/startup.py`, pao {__version__}, {where}. CPU seconds (user and system) of the whole process, {runs} runs after "
        "one that does not count; the bar is held against the least.",
        "",
        "| command | least | median | bar |",
        "|---|---|---|---|",
    ]
    return "\n".join([*head, *rows, ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--run", type=Path, help="a run to verify; default: a synthetic one of 24 trials")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pao-startup-") as scratch:
        run = asked.run or publish(synthetic_run(Path(scratch) / "20261121T090000Z-synthetic"))
        costs = [cost(call, asked.runs) for call in calls(run)]
    text = page(costs, asked.runs)
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / f"startup-{time.strftime('%Y-%m-%d')}.md").write_text(text)
    print(text)
    return 0 if all(c.holds for c in costs) else 1


if __name__ == "__main__":
    sys.exit(main())
