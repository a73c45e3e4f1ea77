"""The process that sends and listens: `python -m profile_and_optimize.clients.stream_worker LOAD RESULT`.

Header values come as the first line of stdin; stdin then stays open as long as the parent lives, and its end is
ours: no worker outlives who asked for it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import uvloop

from profile_and_optimize.clients import probe, wire
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.closed_loop import ClosedLoop
from profile_and_optimize.clients.connection import Exchange, most_bytes
from profile_and_optimize.clients.dialer import Dialer
from profile_and_optimize.clients.kept import as_told, hide, keep, secrets_of
from profile_and_optimize.clients.loop import Loop
from profile_and_optimize.clients.open_loop import OpenLoop
from profile_and_optimize.clients.payload import request_bytes
from profile_and_optimize.clients.sse import Parsed, Reads
from profile_and_optimize.clients.target import parse_target, resolve
from profile_and_optimize.clients.usual import parse
from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.core.records import ClientProbe, ClientRun, RawResponse, RequestRecord

FILES_TO_SPARE = 64


def main() -> int:
    load_path, result_path = map(Path, sys.argv[1:3])
    headers = sys.stdin.buffer.readline()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        wire.write_run(result_path, run(wire.read_load(load_path, headers)))
    except PaoError as error:
        wire.write_error(result_path, error)
    return 0


def _end_with_parent() -> None:
    """Blocked in a read, this thread costs the loop nothing. A parent's death signal would miss macOS and threads."""
    while os.read(0, 1):  # not sys.stdin: its lock, held here, would be a fatal error when the interpreter ends
        pass
    os._exit(1)


def run(load: LoadRequest) -> ClientRun:
    """The whole job, in order: prepare, run at real-time priority, then parse as an ordinary process."""
    loop = _loop(load)
    loop.most_bytes = most_bytes(max(load.osls, default=load.osl))
    _pin(load.cores)
    scheduler = probe.take_fifo() if load.fifo else "other"
    try:
        timed = uvloop.run(_timed(loop))
    finally:
        probe.leave_fifo()
    begin = time.process_time()
    records, raw, reads, coalesced = _parse_all(loop, load)
    measured = replace(
        timed.probe,
        parse_cpu_s=time.process_time() - begin,
        scheduler=scheduler,
        reads=reads,
        coalesced_reads=coalesced,
    )
    most = loop.most if isinstance(loop, OpenLoop) else load.concurrency
    return ClientRun(
        timed.t0_unix_s, most, records, measured, raw, loop.t0_ns, load.arrival, load.request_rate,
        ignore_eos=load.ignore_eos,
    )  # fmt: skip


def _loop(load: LoadRequest) -> Loop:
    target = parse_target(load.url)
    requests, dialer = request_bytes(load, target), Dialer(target, resolve(target))
    if load.schedule is None:
        closed = ClosedLoop(requests, dialer, slots=load.concurrency, timeout_s=load.timeout_s)
        allowed = _allow_files(closed.connections)
        if allowed < closed.connections:
            raise WrongUse(
                f"{closed.connections} connections need more open files than the limit of {allowed}",
                next=f"ulimit -n {2 * closed.connections}, or a lower --concurrency",
            )
        return closed
    most = _allow_files(min(load.concurrency, len(requests)))
    return OpenLoop(requests, dialer, load.schedule, connections=load.connections, most=most, timeout_s=load.timeout_s)


def _allow_files(connections: int) -> int:
    """Raise our limit of open files as far as needed and allowed; how many of these connections it lets us have."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + FILES_TO_SPARE
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(1, allowed - FILES_TO_SPARE)


def _pin(cores: tuple[int, ...]) -> None:
    try:
        probe.pin(cores)
    except (OSError, ValueError) as error:
        raise WrongUse(f"cannot run on cores {cores}: {error}") from None


async def _timed(loop: Loop) -> ClientRun:
    """Connect, freeze, run. Records are not parsed yet; the probe holds what belongs to the timed part."""
    await loop.connect()
    gc.collect()
    gc.freeze()
    gc.disable()
    lag = probe.LagProbe(asyncio.get_running_loop())
    waited, cpu, unix = probe.run_queue_wait_ns(), time.process_time(), time.time() + loop.lead_ns / 1e9
    await loop.run()
    cpu, wait_end = time.process_time() - cpu, probe.run_queue_wait_ns()
    lag.stop()
    gc.enable()
    measured = ClientProbe(
        wall_s=(loop.end_ns - loop.t0_ns) / 1e9,
        cpu_s=cpu,
        parse_cpu_s=0.0,
        loop_lag_ns=tuple(lag.samples),
        run_queue_wait_s=None if waited is None or wait_end is None else (wait_end - waited) / 1e9,
        in_flight_s=loop.in_flight_ns / 1e9,
        scheduler="",
        cores=probe.cores_allowed(),
        connections=loop.connections,
        reconnects=loop.reconnects,
        reads=0,
        coalesced_reads=0,
        threads="event loop; one blocked on stdin",
        waited_for_connection=loop.waited if isinstance(loop, OpenLoop) else None,
    )
    return ClientRun(unix, loop.connections, (), measured)


def _parse_all(loop: Loop, load: LoadRequest) -> tuple[tuple[RequestRecord, ...], tuple[RawResponse, ...], int, int]:
    secrets = secrets_of(load.headers)
    records, raw = [], []
    reads = coalesced = good = 0
    for exchange in sorted(loop.exchanges, key=lambda e: e.index):
        seen = [(at - loop.t0_ns, data) for at, data in exchange.reads]
        max_tokens = load.max_tokens(exchange.index)
        parsed = _parse(exchange, seen, loop.t0_ns, max_tokens)
        hidden = hide(seen, secrets)
        record = parsed.record
        if hidden is not seen:
            record = as_told(record, _parse(exchange, hidden, loop.t0_ns, max_tokens).record)
        records.append(record)
        if not record.ok or (load.keep_raw_every and good % load.keep_raw_every == 0):
            raw.append(keep(record.index, seen, failed=not record.ok, secrets=secrets))
        good += record.ok
        reads += parsed.content_reads
        coalesced += parsed.coalesced_reads
        exchange.reads = []
    return tuple(records), tuple(raw), reads, coalesced


def _parse(exchange: Exchange, reads: Reads, t0_ns: int, max_tokens: int | None) -> Parsed:
    return parse(
        index=exchange.index,
        intended_ns=exchange.intended_ns - t0_ns,
        sent_ns=exchange.sent_ns - t0_ns,
        done_ns=exchange.done_ns - t0_ns,
        reads=reads,
        fault=exchange.fault,
        max_tokens=max_tokens,
    )


if __name__ == "__main__":
    sys.exit(main())
