"""What a client saw, request by request: the rawest numbers that everything else is computed from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import gt

from profile_and_optimize.core.finish import bad_reason

CLOSED = "closed"
ARRIVALS = (CLOSED, "poisson", "constant", "gamma", "replay")


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request. Times are integer nanoseconds since the trial's t0, from one monotonic clock.

    `intended_ns` is when the load asked for it, `sent_ns` when its bytes were handed to the socket.
    `chunk_ns` holds the arrival of every chunk with non-empty content, reasoning or tool call; a first
    role-only or empty chunk is in `first_byte_ns` alone. `completion_tokens` and `prompt_tokens` are
    the server's usage as it stands there, None where it gave none; `max_tokens` is what was asked, None where that is not
    known. What of them can be believed, `stats.tokens` says. A failed request has an `error` and counts in no latency.
    """

    index: int
    intended_ns: int
    sent_ns: int
    done_ns: int
    first_byte_ns: int | None = None
    chunk_ns: tuple[int, ...] = ()
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    status: int | None = None
    finish_reason: str | None = None
    error: str | None = None
    max_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.sent_ns < self.intended_ns or self.done_ns < self.sent_ns:
            raise ValueError(
                f"request {self.index}: times out of order: {self.intended_ns}, {self.sent_ns}, {self.done_ns}"
            )
        if any(map(gt, self.chunk_ns, self.chunk_ns[1:])):
            raise ValueError(f"request {self.index}: chunk times go backwards")
        if self.error is None and not self.chunk_ns:
            raise ValueError(f"request {self.index}: no chunk and no error")
        if self.error is None and (wrong := bad_reason(self.finish_reason)):
            raise ValueError(f"request {self.index}: no error, but {wrong}")

    @property
    def ok(self) -> bool:
        return self.error is None


@dataclass(frozen=True, slots=True)
class ClientProbe:
    """What the client process observed about itself during the run. Seconds; None is unknown.

    `loop_lag_ns` are the raw lateness samples of a sleep probe on the client's event loop.
    `run_queue_wait_s` is time runnable but not scheduled (Linux schedstat). `in_flight_s` is the integral of
    requests in flight over the run. `parse_cpu_s` is the CPU spent after the run on SSE, JSON and tokens.
    `reads` counts socket reads that carried content; `coalesced_reads` those that carried more than one content chunk.
    `waited_for_connection` counts the requests of an open loop that found none idle when they were due.
    `chunks_known` is False for a client that tells only the first and the last chunk of a request: gaps between chunks
    and tokens per chunk are then unknown.
    """

    wall_s: float
    cpu_s: float | None
    parse_cpu_s: float | None
    loop_lag_ns: tuple[int, ...]
    run_queue_wait_s: float | None
    in_flight_s: float | None
    scheduler: str
    cores: tuple[int, ...]
    connections: int | None
    reconnects: int | None
    reads: int | None
    coalesced_reads: int | None
    threads: str = ""
    waited_for_connection: int | None = None
    chunks_known: bool = True


@dataclass(frozen=True, slots=True)
class RawResponse:
    """Kept bytes of one response: every failed request and a sample of the good ones.

    `reads` are (nanoseconds since t0, raw bytes as received, HTTP framing included).
    """

    index: int
    reads: tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class ClientRun:
    """Everything one timed run left behind. `t0_unix_s` is wall-clock time of t0, for joining with telemetry.

    `t0_monotonic_ns` is the same moment on CLOCK_MONOTONIC, which all processes of one Linux boot share: with it
    the mock's send stamps and our arrivals are on one axis. None where the client does not say.
    `arrival` is "closed" (a slot sends when its last answer ended; latencies count from `sent_ns`) or the name of an
    open-loop arrival process, where latencies count from `intended_ns` and `request_rate` is what was asked, in
    requests per second. `concurrency` is the number of slots; of an open loop, the most connections it may open.
    `ignore_eos`: was every answer asked to be of exactly `max_tokens`? None is unknown.
    """

    t0_unix_s: float
    concurrency: int
    records: Sequence[RequestRecord]
    probe: ClientProbe
    raw: tuple[RawResponse, ...] = field(default=())
    t0_monotonic_ns: int | None = None
    arrival: str = CLOSED
    request_rate: float | None = None
    ignore_eos: bool | None = None

    def __post_init__(self) -> None:
        if self.arrival not in ARRIVALS:
            raise ValueError(f"arrival {self.arrival!r}: one of {', '.join(ARRIVALS)}")
        if (self.arrival == CLOSED) != (self.request_rate is None):
            raise ValueError("an open loop has a request rate, and a closed loop has none")

    @property
    def open_loop(self) -> bool:
        return self.arrival != CLOSED
