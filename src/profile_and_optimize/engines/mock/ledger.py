"""What the mock did and when: actual send times per request, and the histograms a real engine would show."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from itertools import pairwise

# vLLM's own buckets, so that a reader of its /metrics reads ours.
TTFT_BUCKETS = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
)  # fmt: skip
TOKEN_BUCKETS = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip


@dataclass(slots=True)
class Sent:
    """One request. Nanoseconds of CLOCK_MONOTONIC, which all processes of a Linux machine share.

    `chunk_ns[k]` is taken right before the system call that sends content chunk k. `tag` is the prompt's first word.
    """

    index: int
    read_ns: int
    start_ns: int
    prompt_tokens: int = 0
    tokens: int = 0
    chunk_ns: list[int] = field(default_factory=list)
    outcome: str = "open"
    tag: str = ""

    def to_json(self) -> dict[str, object]:
        return {
            "index": self.index, "read_ns": self.read_ns, "start_ns": self.start_ns, "tokens": self.tokens,
            "chunk_ns": self.chunk_ns, "outcome": self.outcome, "tag": self.tag,
        }  # fmt: skip


class Histogram:
    """A Prometheus histogram of seconds."""

    def __init__(self, name: str, buckets: tuple[float, ...]) -> None:
        self.name, self.buckets = name, buckets
        self.counts = [0] * (len(buckets) + 1)
        self.sum = 0.0

    def observe(self, *seconds: float) -> None:
        """Sorted first: one search per bucket instead of one per value, for streams have more tokens than buckets."""
        ordered, below = sorted(seconds), 0
        self.sum += sum(ordered)
        for k, le in enumerate(self.buckets):
            upto = bisect_right(ordered, le, below)
            self.counts[k] += upto - below
            below = upto
            if below == len(ordered):
                return
        self.counts[-1] += len(ordered) - below

    def lines(self, labels: str) -> list[str]:
        """Buckets are cumulative, as Prometheus wants them."""
        lines, total = [f"# TYPE {self.name} histogram"], 0
        for le, count in zip((*map(str, self.buckets), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f'{self.name}_bucket{{{labels},le="{le}"}} {total}')
        return [*lines, f"{self.name}_sum{{{labels}}} {self.sum}", f"{self.name}_count{{{labels}}} {total}"]


class Ledger:
    """Counts every request; keeps each one's send times only when asked to (a long-lived server would fill up)."""

    def __init__(self, model: str, *, keep: bool) -> None:
        escaped = model.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        self.labels = f'model_name="{escaped}"'
        self.keep = keep
        self.sent: list[Sent] = []
        self.ttft = Histogram("vllm:time_to_first_token_seconds", TTFT_BUCKETS)
        self.tpot = Histogram("vllm:request_time_per_output_token_seconds", TOKEN_BUCKETS)
        self.itl = Histogram("vllm:inter_token_latency_seconds", TOKEN_BUCKETS)
        self.finished = {"stop": 0, "length": 0, "abort": 0}
        self.prompt_tokens = self.generation_tokens = 0

    def open(self, sent: Sent) -> None:
        if self.keep:
            self.sent.append(sent)

    def close(self, sent: Sent, outcome: str) -> None:
        """Into the counters, from actual send times. `outcome`: stop, length or abort."""
        sent.outcome = outcome
        self.finished[outcome] += 1
        self.prompt_tokens += sent.prompt_tokens
        self.generation_tokens += sent.tokens
        times = sent.chunk_ns
        if times:
            self.ttft.observe((times[0] - sent.read_ns) / 1e9)
        if sent.tokens > 1 and len(times) > 1:
            self.tpot.observe((times[-1] - times[0]) / 1e9 / (sent.tokens - 1))
        self.itl.observe(*((later - earlier) / 1e9 for earlier, later in pairwise(times)))

    def stamps(self) -> dict[str, object]:
        return {"schema": 1, "clock": "CLOCK_MONOTONIC ns", "requests": [sent.to_json() for sent in self.sent]}

    def reset(self) -> None:
        self.sent = []

    def metrics(self, *, running: int, waiting: int) -> str:
        """Prometheus text with vLLM's names."""
        plain = [
            ("vllm:num_requests_running", "gauge", running), ("vllm:num_requests_waiting", "gauge", waiting),
            ("vllm:prompt_tokens_total", "counter", self.prompt_tokens),
            ("vllm:generation_tokens_total", "counter", self.generation_tokens),
        ]  # fmt: skip
        lines = [line for n, kind, v in plain for line in (f"# TYPE {n} {kind}", f"{n}{{{self.labels}}} {v}")]
        lines.append("# TYPE vllm:request_success_total counter")
        lines += [
            f'vllm:request_success_total{{{self.labels},finished_reason="{r}"}} {n}' for r, n in self.finished.items()
        ]
        for histogram in (self.ttft, self.tpot, self.itl):
            lines += histogram.lines(self.labels)
        return "\n".join(lines) + "\n"
