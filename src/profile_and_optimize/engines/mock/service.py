"""What each path answers, and the streams in progress."""

from __future__ import annotations

import asyncio
import math
import random
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from time import perf_counter_ns
from typing import Protocol

import orjson

from profile_and_optimize.engines.mock.http import Request, response
from profile_and_optimize.engines.mock.ledger import Ledger, Sent
from profile_and_optimize.engines.mock.options import Options
from profile_and_optimize.engines.mock.plan import Plan, Refused, make_plan, read_ask
from profile_and_optimize.engines.mock.wheel import Wheel

COMPLETIONS = {"/v1/completions": False, "/v1/chat/completions": True}
MAX_MODEL_LEN = 1_048_576


class Sink(Protocol):
    """The connection an answer goes to."""

    lost: bool

    def send(self, data: bytes) -> None: ...
    def finish(self, data: bytes = b"") -> None: ...
    def cut(self) -> None: ...


class Stream:
    """One answer in progress: sends frame k at its deadline and says when the next one is due."""

    def __init__(
        self, service: Service, sink: Sink, plan: Plan, sent: Sent, *, finish: str, cut_at: int | None
    ) -> None:
        self._service, self._sink, self._plan, self._sent = service, sink, plan, sent
        self._finish, self._cut_at = finish, cut_at
        self._k = 0
        self._pause = 0

    def start(self, now: int) -> int:
        self._sent.start_ns = now
        self._pause = self._service.stalled_for(now)  # a request that comes in the stall is begun at its end
        return self._due(0)

    def _due(self, k: int) -> int:
        return self._sent.start_ns + self._plan.offsets_ns[k] + self._pause

    def fire(self) -> int | None:
        k, plan, sent = self._k, self._plan, self._sent
        if self._sink.lost:
            self._service.ended(sent, "abort")
            return None
        if not self._pause and (pause := self._service.pause_at(self._due(k))):
            # The stream's whole remaining schedule moves, past the stall: a paused engine does not catch up afterwards.
            self._pause = pause
            return self._due(k)
        if k == self._cut_at:
            self._sink.cut()
            self._service.ended(sent, "abort")
            return None
        if plan.tokens[k]:
            sent.chunk_ns.append(perf_counter_ns())
            sent.tokens += plan.tokens[k]
        self._sink.send(plan.frames[k])
        self._k = k + 1
        if k + 1 < len(plan.frames):
            return self._due(k + 1)
        self._service.ended(sent, self._finish)
        self._sink.finish()
        return None


class Service:
    """Routes, slots, faults and counters of one server."""

    def __init__(self, options: Options, loop: asyncio.AbstractEventLoop, answers: Mapping[str, str]) -> None:
        self._options, self._answers = options, answers
        self._wheel = Wheel(loop)
        self._ledger = Ledger(options.model, keep=options.stamps is not None)
        self._rng = random.Random(options.seed)
        # New noise at every start, as with real servers: a fixed one is replayed in each session, and so a true difference.
        self._noise = random.Random(options.seed or None)
        self._arrivals = 0
        self._first_ns: int | None = None
        self._running = 0
        self._waiting: deque[Stream] = deque()

    def answer(self, sink: Sink, request: Request, now: int) -> None:
        """Answer now, or start a stream. Raises Refused."""
        if request.path in COMPLETIONS:
            if request.method != "POST":
                raise Refused(405, "use POST")
            self._complete(sink, request, now)
        else:
            sink.finish(self._plain(request.path))

    def _plain(self, path: str) -> bytes:
        if path == "/v1/models":
            card = {"id": self._options.model, "object": "model", "owned_by": "mock", "max_model_len": MAX_MODEL_LEN}
            return response(200, orjson.dumps({"object": "list", "data": [card]}))
        if path == "/health":
            return response(200, b"")
        if path == "/version":
            return response(200, orjson.dumps({"version": "mock-" + version("profile-and-optimize")}))
        if path == "/metrics":
            text = self._ledger.metrics(running=self._running, waiting=len(self._waiting))
            return response(200, text.encode(), "text/plain; version=0.0.4; charset=utf-8")
        if path == "/stamps":
            return response(200, self._write_stamps())
        if path == "/stamps/reset":
            self._ledger.reset()
            return response(200, b"{}")
        raise Refused(404, f"no such path: {path}")

    def _write_stamps(self) -> bytes:
        if self._options.stamps is None:
            raise Refused(404, "started without --stamps")
        text = orjson.dumps(self._ledger.stamps())
        self._options.stamps.write_bytes(text)
        return text

    def _complete(self, sink: Sink, request: Request, now: int) -> None:
        nth = self._arrivals = self._arrivals + 1
        self._first_ns = now if self._first_ns is None else self._first_ns
        if _every(self._options.error_every, nth):
            raise Refused(500, f"fault injected: request {nth} fails")
        ask = read_ask(request.body, chat=COMPLETIONS[request.path], options=self._options, answers=self._answers)
        if _every(self._options.abort_every, nth):
            ask = replace(ask, words=ask.words[: len(ask.words) // 2] or ask.words, finish="abort")
        plan = make_plan(ask, self._options, self._factor(nth), self._rng)
        sent = Sent(_index(request.headers, nth - 1), now, now, ask.prompt_tokens, tag=ask.tag)
        cut_at = len(plan.frames) // 2 if _every(self._options.cut_every, nth) and ask.stream else None
        self._ledger.open(sent)
        self._admit(Stream(self, sink, plan, sent, finish=ask.finish, cut_at=cut_at), now)

    def _factor(self, nth: int) -> float:
        noise = self._noise.gauss(0.0, self._options.noise) if self._options.noise else 0.0
        return math.exp(noise) * (1.0 + self._options.drift * (nth - 1))

    def _admit(self, stream: Stream, now: int) -> None:
        if self._options.slots and self._running >= self._options.slots:
            self._waiting.append(stream)
            return
        self._running += 1
        due = stream.start(now)
        if due > now:
            self._wheel.add(due, stream)
        elif (following := stream.fire()) is not None:  # t=0: at once, not a timer's millisecond later
            self._wheel.add(following, stream)

    def ended(self, sent: Sent, outcome: str) -> None:
        """A stream is over: count it, and give its slot to the next."""
        self._ledger.close(sent, outcome)
        self._running -= 1
        if self._waiting:
            self._admit(self._waiting.popleft(), perf_counter_ns())

    def pause_at(self, due_ns: int) -> int:
        """Nanoseconds that a stream in progress with something due then is held back; 0 outside of the stall."""
        return round(self._options.stall_for * 1e9) if self.stalled_for(due_ns) else 0

    def stalled_for(self, now_ns: int) -> int:
        """Nanoseconds from then to the end of the stall; 0 outside of it."""
        if not self._options.stall_for or self._first_ns is None:
            return 0
        begin = self._first_ns + round(self._options.stall_at * 1e9)
        end = begin + round(self._options.stall_for * 1e9)
        return end - now_ns if begin <= now_ns < end else 0


def _every(n: int, nth: int) -> bool:
    return n > 0 and nth % n == 0


def _index(headers: Mapping[str, str], arrival: int) -> int:
    """Which request this is, in the client's own count: ours says it plainly, vllm bench ends its request id with it."""
    text = headers.get("x-request-index") or headers.get("x-request-id", "")
    digits = re.search(r"\d+$", text)
    return int(digits.group()) if digits else arrival


def error_body(status: int, message: str) -> bytes:
    """The OpenAI error object."""
    kind = "InternalServerError" if status >= 500 else "BadRequestError"
    return orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": status}})
