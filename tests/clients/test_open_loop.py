"""The open loop against servers that stall, die, refuse or close: every request leaves on time and none is lost from the count."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.clients import wire
from profile_and_optimize.clients.arrivals import Schedule, draw
from profile_and_optimize.clients.base import MOST_CONNECTIONS, LoadRequest
from profile_and_optimize.clients.open_loop import connections_for, spare
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.stats.honesty import assess
from profile_and_optimize.stats.summary import summarize

QUICK = ("--ttft-ms", "20", "--itl-ms", "2")
MS, S = 1_000_000, 1_000_000_000


def load(url: str, schedule: Schedule, **changes: Any) -> LoadRequest:
    values: dict[str, Any] = {
        "model": "mock", "api": "chat", "osl": 4, "concurrency": MOST_CONNECTIONS, "timeout_s": 20.0, "fifo": False,
    }  # fmt: skip
    prompts = tuple(f"prompt number {i}" for i in range(len(schedule.at_ns)))
    return LoadRequest(url=url, prompts=prompts, schedule=schedule, **values | changes)


def run(tmp_path: Path, schedule: Schedule, *flags: str, **changes: Any) -> ClientRun:
    with MockProcess(*QUICK, *flags) as mock:
        return StreamClient().run(load(mock.url, schedule, **changes), workdir=tmp_path / "work")


def test_requests_are_meant_when_the_schedule_says_and_never_leave_before(tmp_path: Path) -> None:
    schedule = draw("poisson", 40.0, 30, "seed")
    found = run(tmp_path, schedule)
    assert [r.intended_ns for r in found.records] == list(schedule.at_ns)
    assert all(r.ok and r.sent_ns >= r.intended_ns for r in found.records)
    assert (found.arrival, found.request_rate, found.open_loop) == ("poisson", 40.0, True)
    assert found.probe.waited_for_connection == 0
    area = sum(r.done_ns - r.sent_ns for r in found.records) / 1e9
    assert found.probe.in_flight_s == pytest.approx(area, rel=1e-6)


def test_a_stall_is_in_the_latency_of_every_request_meant_in_it_and_a_closed_loop_hides_it(tmp_path: Path) -> None:
    """40 requests a second; the server freezes from 0.5 s to 1.5 s. A closed loop of four meets it with four requests."""
    stall = ("--stall-at", "0.5", "--stall-for", "1.0", "--itl-ms", "1")
    with MockProcess(*QUICK, *stall, "--stamps", str(tmp_path / "open.json")) as mock:
        found = StreamClient().run(load(mock.url, draw("constant", 40.0, 80, "x")), workdir=tmp_path / "open")
        first = first_read(mock, found)
    meant_in_it = [r for r in found.records if 0.5 < (r.intended_ns - first) / 1e9 < 1.5]
    assert len(meant_in_it) >= 39
    for r in meant_in_it:  # each waits for the rest of the stall
        assert (r.chunk_ns[0] - r.intended_ns) / 1e9 >= 1.5 - (r.intended_ns - first) / 1e9
    summary = summarize(found.records, asked=80, concurrency=found.concurrency, from_intended=True, drop=0)
    ttft = summary.dists["ttft"]
    assert ttft is not None and ttft.p99 > 0.9
    with MockProcess(*QUICK, *stall, "--stamps", str(tmp_path / "closed.json")) as mock:
        asked = LoadRequest(mock.url, "mock", "chat", tuple(map(str, range(120))), 4, 4, timeout_s=20.0, fifo=False)
        closed = StreamClient().run(asked, workdir=tmp_path / "closed")
        middle = first_read(mock, closed) + S
    assert 1 <= sum(r.sent_ns < middle < r.done_ns for r in closed.records) <= 4


def first_read(mock: MockProcess, run: ClientRun) -> int:
    """When the mock read its first request, from which it counts to its stall; on the clock of the records."""
    assert run.t0_monotonic_ns is not None
    return int(min(row["read_ns"] for row in mock.stamps())) - run.t0_monotonic_ns


def test_answers_that_never_come_hold_nothing_back(tmp_path: Path) -> None:
    """No answer within the timeout: all twenty are sent before the first is given up, over twenty connections."""
    found = run(tmp_path, draw("constant", 200.0, 20, "x"), "--ttft-ms", "60000", timeout_s=2.0, connections=1)
    assert [r.error for r in found.records] == ["timeout"] * 20
    assert found.probe.connections == 20
    sent = [r.sent_ns for r in found.records]
    assert max(sent) < min(r.done_ns for r in found.records)
    assert all(r.done_ns - r.sent_ns >= 2 * S for r in found.records)


def test_a_lack_of_connections_waits_and_is_counted(tmp_path: Path) -> None:
    """Two connections for answers of 150 ms at forty a second: the wait is in the latency, and the run is invalid."""
    found = run(tmp_path, draw("constant", 40.0, 20, "x"), "--ttft-ms", "150", concurrency=2)
    assert all(r.ok for r in found.records) and found.concurrency == 2
    assert (found.probe.waited_for_connection or 0) >= 15
    last = found.records[-1]
    # The last of twenty leaves after nine answers of its connection, 1.35 s, and was meant at 0.475 s.
    assert last.sent_ns - last.intended_ns > 0.8 * S
    honesty = assess(found, requests_asked=20)
    assert honesty.validity == "invalid" and "found no idle connection" in " ".join(honesty.reasons)


def test_every_fifth_error_and_every_cut_stream_are_failures_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = run(tmp_path, draw("poisson", 100.0, 40, "x"), "--error-every", "5", "--cut-every", "8")
    failed = {r.error for r in found.records if not r.ok}
    assert len([r for r in found.records if r.status == 500]) == 8
    assert "stream cut after 2 content chunks" in failed
    assert len(found.records) == 40


@contextmanager
def server(answers: Callable[[float], bool], *, closes_after_s: float = 10.0, accepts: int = 99) -> Iterator[str]:
    """Answers a request if `answers(seconds the connection was idle)`, else closes without a word; closes idle ones too."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(peer: socket.socket) -> None:
        free = time.monotonic()
        with peer, contextlib.suppress(OSError):
            peer.settimeout(closes_after_s)
            while peer.recv(65536) and answers(time.monotonic() - free):
                peer.sendall(ANSWER)
                free = time.monotonic()

    def accept() -> None:
        with contextlib.suppress(OSError):
            for _ in range(accepts):
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        listener.close()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # wakes the accept
        listener.close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
BODY = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
ANSWER = HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def test_a_server_that_dies_fails_the_rest_by_name_and_the_run_ends(tmp_path: Path) -> None:
    answered = iter([True] + [False] * 99)
    with server(lambda _: next(answered), accepts=1) as url:
        asked = load(url, draw("constant", 20.0, 6, "x"), connections=1, concurrency=1, timeout_s=5.0)
        found = StreamClient().run(asked, workdir=tmp_path)
    assert found.records[0].ok and len(found.records) == 6
    assert not any(r.ok for r in found.records[1:])
    assert any((r.error or "").startswith("cannot connect: Connection refused") for r in found.records[1:])


def test_connections_that_the_server_closes_when_idle_are_replaced_before_they_are_needed(tmp_path: Path) -> None:
    """It closes after 1.3 s without a request, as uvicorn does after 5: the second request waits for no connection."""
    with server(lambda _: True, closes_after_s=1.3) as url:
        asked = load(url, Schedule("replay", 1.0, (0, 2 * S)), connections=2, timeout_s=5.0)
        found = StreamClient().run(asked, workdir=tmp_path)
    assert [r.error for r in found.records] == [None, None]
    assert (found.probe.waited_for_connection, found.probe.reconnects) == (0, 0)


def test_a_request_that_met_a_stale_connection_is_sent_again_once(tmp_path: Path) -> None:
    """The server closes on a request that comes after 1.2 idle seconds, without an answer; on a fresh connection it answers."""
    times = Schedule("replay", 1.5, (0, 1500 * MS, 1500 * MS))
    with server(lambda idle_s: idle_s < 1.2) as url:
        found = StreamClient().run(load(url, times, connections=2, timeout_s=5.0), workdir=tmp_path)
    assert [r.error for r in found.records] == [None] * 3
    assert found.probe.reconnects == 2
    with server(lambda _: False) as url:  # one that never answers fails the request at once
        never = StreamClient().run(load(url, draw("constant", 50.0, 3, "x"), timeout_s=5.0), workdir=tmp_path)
    assert {r.error for r in never.records} == {"connection closed before an answer"}
    assert never.probe.reconnects == 0


def test_a_turn_waits_for_the_answer_before_it_and_other_requests_do_not(tmp_path: Path) -> None:
    """Turn 1 is due at 50 ms, but turn 0 takes 300 ms: it is meant at turn 0's end plus 40 ms of thought."""
    schedule = Schedule("replay", 20.0, (0, 50 * MS, 60 * MS, 900 * MS), (None, 0, None, 1), (0, 40 * MS, 0, 5 * MS))
    found = run(tmp_path, schedule, "--ttft-ms", "300")
    first, second, other, late = found.records
    assert second.intended_ns == first.done_ns + 40 * MS
    assert other.intended_ns == 60 * MS and other.sent_ns < first.done_ns
    # Turn 3 follows turn 1, which ended long before its own time: then that time holds.
    assert late.intended_ns == max(900 * MS, second.done_ns + 5 * MS)


def test_a_failed_turn_lets_the_next_one_go(tmp_path: Path) -> None:
    schedule = Schedule("replay", 20.0, (0, 10 * MS), (None, 0), (0, 0))
    found = run(tmp_path, schedule, "--error-every", "1")
    assert [r.status for r in found.records] == [500, 500]
    assert found.records[1].intended_ns == max(10 * MS, found.records[0].done_ns)


def test_each_request_asks_for_its_own_osl(tmp_path: Path) -> None:
    found = run(tmp_path, draw("constant", 50.0, 3, "x"), osls=(2, 7, 5))
    assert [r.completion_tokens for r in found.records] == [2, 7, 5]


def test_a_load_passes_the_wire_unchanged(tmp_path: Path) -> None:
    schedule = Schedule("replay", 4.0, (0, 5, 9), (None, 0, None), (0, 7, 0))
    asked = load("http://h", schedule, osls=(1, 2, 3), headers=(("a", "b"),), cores=(1,), connections=3)
    line = wire.write_load(tmp_path / "load.json", asked)
    assert wire.read_load(tmp_path / "load.json", line) == asked


def test_a_run_passes_the_wire_with_its_arrival_and_rate(tmp_path: Path) -> None:
    found = run(tmp_path, draw("gamma", 50.0, 4, "x", 0.5))
    wire.write_run(tmp_path / "run.json", found)
    assert wire.read_run(tmp_path / "run.json") == found
    assert (found.arrival, found.request_rate) == ("gamma", 50.0)


def test_a_load_whose_parts_do_not_fit_is_a_mistake() -> None:
    schedule = draw("constant", 1.0, 3, "x")
    with pytest.raises(ValueError, match="2 prompts"):
        LoadRequest("http://h", "m", "chat", ("a", "b"), 4, 8, schedule=schedule)
    with pytest.raises(ValueError, match="osl"):
        LoadRequest("http://h", "m", "chat", ("a", "b"), 4, 1, osls=(1,))


def test_connections_by_littles_law_and_some_to_spare() -> None:
    assert (spare(1.0), spare(100.0), spare(10_000.0)) == (8, 25, 256)
    assert connections_for(100.0, 0.5) == 50 + 25


def test_the_alarm_never_rings_early_and_takes_a_new_time(tmp_path: Path) -> None:
    import asyncio

    from profile_and_optimize.clients.alarm import Alarm, TimerFd

    async def ring(*waits_ns: int) -> int:
        """When it rang, counted from the last time it was set to."""
        rung = asyncio.get_running_loop().create_future()
        alarm = Alarm(asyncio.get_running_loop(), lambda: rung.done() or rung.set_result(time.perf_counter_ns()))
        begin = time.perf_counter_ns()
        for wait in waits_ns:
            alarm.set(begin + wait)
        late = await asyncio.wait_for(rung, 5) - begin - waits_ns[-1]
        alarm.close()
        return int(late)

    for waits in ((3 * MS,), (4 * S, 5 * MS), (-MS,)):
        assert asyncio.run(ring(*waits)) >= 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TimerFd, "open", staticmethod(lambda: None))  # another system than Linux
        for waits in ((3 * MS,), (4 * S, 5 * MS), (-MS,)):
            assert asyncio.run(ring(*waits)) >= 0
