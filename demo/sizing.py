"""How large a demo this machine gets through in the time there is: one measured second, then arithmetic.

Standard library only, since it runs before anything is installed. `measure` uses the machine, `plan` is a pure function of what
it found. Constants were measured with vLLM 0.32.0 on 2 cores, with AVX-512 (README, December 2026) and with AVX2 alone.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

PROBE_S = 1.0
BF16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
# Multiplications and additions a CPU second of this file's loop, and bytes copied, on the machines of the constants below.
REFERENCE_OPS, REFERENCE_BYTES = 22e6, 5e9
# Output tokens a second of a model of 120M parameters, 64 tokens in and 64 out at concurrency 8, on 2 cores.
TOKENS = {"bf16": 214.0, "bf16 emulated": 12.0, "float32": 42.0}
FLOAT32_ON_512 = 100.0
AT_PARAMETERS = 120e6
# Seconds on 2 cores: a start without compilation, with a filled cache of compiled code, and the first that fills it. The largest
# of what was seen on AVX2 is 225 s for the last.
EAGER_S, WARM_S, COLD_S = {True: 22.0, False: 32.0}, {True: 24.0, False: 60.0}, {True: 86.0, False: 225.0}
# Downloads apart: environment, vLLM's installation, the grown model; and both reports with their check.
SETUP_S, GROW_S, REPORT_S, STOP_S = 200.0, 25.0, 30.0, 3.0
CONCURRENCY, OSL, BLOCKS = 8, 64, 3
# A question costs about as much as so many output tokens.
QUESTION_TOKENS = 15
# Of the gate: how many questions settle a candidate that loses none (`stats.noninferiority`), by how many are planned.
SETTLED = {480: 336, 300: 270, 240: 240}
# The budget's part that is left for what nobody foresees.
SAFE = 0.9


@dataclass(frozen=True, slots=True)
class Speed:
    """`cores` are those that this process was given while all were asked for at once (2 of 2 on a quiet machine, 1.5 beside one busy
    process), `ops_per_s` of one CPU second, `bytes_per_s` copied. `bf16`: the processor computes in bfloat16."""

    cores: float
    cores_there: int
    ops_per_s: float
    bytes_per_s: float
    avx512: bool
    bf16: bool

    def __post_init__(self) -> None:
        if not (0 < self.cores <= self.cores_there and self.ops_per_s > 0 and self.bytes_per_s > 0):
            raise ValueError(f"not a measured speed: {self}")

    @property
    def factor(self) -> float:
        """How many times faster than the machines of the constants: the slower of arithmetic and memory, by the cores given, of
        which more than two help little."""
        cores = min(self.cores, 2.0 if self.cores_there <= 2 else 4.0) / 2
        return min(self.ops_per_s / REFERENCE_OPS, self.bytes_per_s / REFERENCE_BYTES, 1.5) * cores

    @property
    def cold_start_s(self) -> float:
        """Expected of a first start that compiles."""
        return COLD_S[self.avx512] / self.factor

    def words(self) -> str:
        kind = ("AVX-512" if self.avx512 else "no AVX-512") + (", bfloat16" if self.bf16 else ", no bfloat16")
        return (
            f"{self.cores:.1f} of {self.cores_there} cores free, {self.ops_per_s / 1e6:.0f} million operations and "
            f"{self.bytes_per_s / 1e9:.1f} GB copied a second; {kind}"
        )


@dataclass(frozen=True, slots=True)
class Sizes:
    """What is measured: a model of `parameters` in `layers`, `requests` a trial, `questions` planned. `dtype` is "" for the engine's
    own default. `eager`: every variant without compilation. `parts` are the seconds that each part is expected to take."""

    parameters: int
    layers: int
    requests: int
    questions: int
    lever: str
    eager: bool
    dtype: str
    parts: tuple[tuple[str, float], ...]
    left_out: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        return sum(s for _, s in self.parts)

    @property
    def flags(self) -> tuple[str, ...]:
        """Of every variant."""
        return (*(("--enforce-eager",) if self.eager else ()), *(("--dtype", self.dtype) if self.dtype else ()))


# The largest first: parameters, layers, requests a trial, questions.
STEPS = (
    (120_000_000, 12, 32, 480), (120_000_000, 12, 24, 300), (60_000_000, 12, 32, 300), (60_000_000, 12, 24, 240),
    (30_000_000, 8, 24, 300), (30_000_000, 8, 24, 240), (16_000_000, 8, 24, 240), (16_000_000, 8, 16, 240), (8_000_000, 4, 16, 240),
    (8_000_000, 4, 16, 0),
)  # fmt: skip


def plan(speed: Speed, budget_s: float, setup_s: float = SETUP_S) -> Sizes:
    """The largest demo that fits into the budget, the engine's own defaults before anything cheaper; where none fits the smallest,
    whose `seconds` say how much too long it is. `setup_s`: what comes before the campaign, on the machines of the constants."""
    for eager, dtype in ((False, ""), (True, ""), (True, "float32")):
        if dtype and speed.bf16:
            continue
        for step in STEPS:
            found = _sizes(speed, setup_s, *step, eager=eager, dtype=dtype)
            if found.seconds <= SAFE * budget_s:
                return found
    return _sizes(speed, setup_s, *STEPS[-1], eager=True, dtype="" if speed.bf16 else "float32")


def _sizes(
    speed: Speed,
    setup_s: float,
    parameters: int,
    layers: int,
    requests: int,
    questions: int,
    *,
    eager: bool,
    dtype: str,
) -> Sizes:
    lever = "threads-all" if speed.bf16 or dtype else "dtype-float32"
    own = "float32" if dtype else "bf16" if speed.bf16 else "bf16 emulated"
    kinds = (own, own, "float32" if lever == "dtype-float32" else own)
    rates = [_tokens_per_s(speed, kind, parameters) for kind in kinds]
    start_s = (EAGER_S if eager else WARM_S)[speed.avx512] / speed.factor
    wave_s = [CONCURRENCY * OSL / r for r in rates]
    sessions = sum(start_s + STOP_S + w * (0.4 + requests / CONCURRENCY) for w in wave_s)
    # The A/A control is not probed; the first start of each kind of code fills its cache.
    cold = 0.0 if eager else (COLD_S[speed.avx512] - WARM_S[speed.avx512]) / speed.factor
    admission = sum(start_s + STOP_S for _ in kinds) + 2.2 * (wave_s[0] + wave_s[2]) + cold * (1 + (kinds[2] != own))
    asked = SETTLED.get(questions, 0)
    parts = (
        ("installing and growing the model", setup_s / speed.factor),
        ("starting every variant once", admission),
        (f"{asked} of {questions} questions to each" if questions else "no questions", sum(asked * QUESTION_TOKENS / r for r in rates)),
        (f"{BLOCKS} blocks of baseline, A/A control and {lever}", BLOCKS * sessions),
        ("both reports", REPORT_S / speed.factor),
    )  # fmt: skip
    return Sizes(
        parameters,
        layers,
        requests,
        questions,
        lever,
        eager,
        dtype,
        parts,
        _left_out(parameters, requests, questions, eager, dtype),
    )


def _tokens_per_s(speed: Speed, kind: str, parameters: int) -> float:
    rate = FLOAT32_ON_512 if kind == "float32" and speed.avx512 else TOKENS[kind]
    # Below some size a step costs its overhead, whatever the model.
    return min(rate * AT_PARAMETERS / parameters, 600.0) * speed.factor


def _left_out(parameters: int, requests: int, questions: int, eager: bool, dtype: str) -> tuple[str, ...]:
    most = STEPS[0]
    lines = (
        (parameters < most[0], f"the model of {most[0] // 10**6}M parameters: one of {parameters // 10**6}M is grown"),
        (requests < most[2], f"{most[2] - requests} of {most[2]} requests a trial"),
        (questions < most[3], f"{most[3] - questions} of {most[3]} accuracy questions"),
        (eager, "compilation: every variant runs with --enforce-eager"),
        (bool(dtype), f"the engine's default bfloat16: every variant runs in {dtype}"),
    )
    return tuple(text for cut, text in lines if cut)


def plan_lines(speed: Speed, sizes: Sizes, budget_s: float) -> tuple[str, ...]:
    """What is printed before anything starts."""
    fits = sizes.seconds <= budget_s
    too_long = (
        "" if fits else f": more than the budget of {budget_s / 60:.0f} min, and nothing smaller is worth measuring"
    )
    whole = f"expected: {sizes.seconds / 60:.0f} min without downloads{too_long}"
    parts = tuple(f"  {seconds:5.0f} s  {name}" for name, seconds in sizes.parts)
    out = tuple(f"  left out, to fit into {budget_s / 60:.0f} min: {line}" for line in sizes.left_out)
    return (f"this machine: {speed.words()}", whole, *parts, *out)


def measure(cores: int | None = None, probe_s: float = PROBE_S) -> Speed:
    """One second on every core at once, each in a process of its own."""
    there = cores or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    argv = [sys.executable, "-I", str(Path(__file__).resolve()), str(probe_s)]
    running = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for _ in range(there)]
    told = [json.loads(p.communicate()[0]) for p in running]
    flags = _flags()
    return Speed(
        cores=min(float(there), sum(t["share"] for t in told)), cores_there=there,
        ops_per_s=sum(t["ops_per_s"] for t in told) / there, bytes_per_s=sum(t["bytes_per_s"] for t in told) / there,
        avx512="avx512f" in flags, bf16=bool(flags & BF16),
    )  # fmt: skip


def _flags() -> frozenset[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset()
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split()) | ({"bf16"} if platform.machine() == "arm64" else set())


def probe(seconds: float) -> dict[str, float]:
    """A matrix product in plain Python for most of the time, then copies: rates per CPU second, and the share of a core."""
    began, cpu = time.monotonic(), time.process_time()
    n, done = 64, 0
    a = [[float(i * j % 7) for j in range(n)] for i in range(n)]
    while time.monotonic() - began < 0.8 * seconds:
        for row in a:
            for other in a:
                sum(map(float.__mul__, row, other))
            done += 2 * n * n
    share = (time.process_time() - cpu) / (time.monotonic() - began)
    ops_per_s = done / (time.process_time() - cpu)
    block, copied = memoryview(bytearray(b"x") * (64 << 20)), 0
    at, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - at < 0.2 * seconds:
        block[: 32 << 20] = block[32 << 20 :]
        copied += 32 << 20
    return {"share": share, "ops_per_s": ops_per_s, "bytes_per_s": copied / max(time.process_time() - cpu, 1e-3)}


if __name__ == "__main__":
    print(json.dumps(probe(float(sys.argv[1]))))
