"""Levers per engine as data: what each changes, what it should move, and where it exists. One lever an arm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse


@dataclass(frozen=True, slots=True)
class Lever:
    """`predicted` is the expected ratio of the primary endpoint per focus, written before measuring."""

    id: str
    says: str
    predicts: str
    predicted: tuple[tuple[str, tuple[float, float]], ...]
    flags: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    applies: Callable[[Facts], bool] = lambda facts: True

    def arm(self, engine: str, focus: str, facts: Facts) -> Arm:
        fill = {"{all_cores}": f"0-{facts.cores - 1}"}
        env = tuple((k, fill.get(v, v)) for k, v in self.env)
        return Arm(
            self.id, engine, Role.CANDIDATE, self.flags, env, lever=self.says, predicts=self.predicts,
            predicted=dict(self.predicted).get(focus),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """What decides whether a lever exists here: cores of the node, is the engine a CPU build, is there a compiler."""

    cores: int
    cpu: bool
    compiler: bool


VLLM = (
    Lever(
        "threads-all",
        "compute threads on every core (the default keeps one core for the API server)",
        "prefill is bound by compute, so one more core helps; decode is bound by memory and should hardly move",
        (("throughput", (1.05, 1.5)), ("latency", (0.9, 1.1)), ("mixed", (1.0, 1.3))),
        env=(("VLLM_CPU_OMP_THREADS_BIND", "{all_cores}"),),
        applies=lambda f: f.cpu and 1 < f.cores <= 4,
    ),
    Lever(
        "eager",
        "no compilation (--enforce-eager): starts faster, runs slower",
        "loses fused kernels: measured at 14 to 21% of throughput at 120M parameters on CPU",
        (("throughput", (0.75, 0.95)), ("latency", (0.75, 0.95)), ("mixed", (0.75, 0.95))),
        flags=("--enforce-eager",),
    ),
    Lever(
        "batch-64",
        "at most 64 tokens a step (--max-num-batched-tokens 64): long prefills no longer hold up decodes",
        "a trade: time to first token falls, time per output token rises",
        (("throughput", (0.85, 1.05)), ("latency", (0.7, 1.1)), ("mixed", (0.8, 1.05))),
        flags=("--max-num-batched-tokens", "64", "--max-num-seqs", "32"),
    ),
    Lever(
        "async-off",
        "scheduling in step with execution (--no-async-scheduling)",
        "saves nothing where the scheduler is idle; costs the overlap",
        (("throughput", (0.9, 1.02)), ("latency", (0.9, 1.02)), ("mixed", (0.9, 1.02))),
        flags=("--no-async-scheduling",),
        applies=lambda f: not f.cpu,
    ),
)
MOCK = (
    Lever(
        "quick",
        "a mock with 9 ms a token instead of 10",
        "exactly 10 ms against 9",
        (("throughput", (1.0, 1.2)),),
        ("--itl-ms", "9"),
    ),
    Lever(
        "slow",
        "a mock with 12 ms a token",
        "exactly 10 ms against 12",
        (("throughput", (0.75, 0.95)),),
        ("--itl-ms", "12"),
    ),
)
TABLE: dict[str, tuple[Lever, ...]] = {"vllm": VLLM, "mock": MOCK}


def arms(engine: str, focus: str, facts: Facts, known_flags: frozenset[str] | None, most: int) -> tuple[Arm, ...]:
    """Baseline, A/A and the first `most` levers that exist here; the engine's own defaults are the baseline."""
    if engine not in TABLE:
        raise WrongUse(f"no levers for engine {engine!r}; there are {', '.join(TABLE)}")
    found = [lv for lv in TABLE[engine] if lv.applies(facts) and _has(lv, known_flags)]
    base = Arm("baseline", engine, Role.BASELINE)
    return (base, Arm("baseline-again", engine, Role.AA), *(lv.arm(engine, focus, facts) for lv in found[:most]))


def _has(lever: Lever, known: frozenset[str] | None) -> bool:
    return known is None or all(f in known for f in lever.flags if f.startswith("--"))
