"""The streaming client against the mock server: what it records is what was sent. No timing is asserted."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.clients import loop, stream_worker, wire
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.sse import parse_response
from profile_and_optimize.clients.stream import WORKER, StreamClient
from profile_and_optimize.core.errors import Unreachable, WrongUse
from profile_and_optimize.core.records import ClientRun
from profile_and_optimize.engines.mock.process import MockProcess

QUICK = ("--ttft-ms", "20", "--itl-ms", "2")


def load(url: str, n: int = 10, **changes: Any) -> LoadRequest:
    values: dict[str, Any] = {
        "model": "mock",
        "api": "chat",
        "osl": 8,
        "concurrency": 4,
        "timeout_s": 20.0,
        "fifo": False,
    }
    return LoadRequest(url=url, prompts=tuple(f"prompt number {i}" for i in range(n)), **values | changes)


def run(tmp_path: Path, *flags: str, n: int = 10, **changes: Any) -> ClientRun:
    with MockProcess(*QUICK, *flags) as mock:
        return StreamClient().run(load(mock.url, n, **changes), workdir=tmp_path / "work")


@contextmanager
def server(*connections: list[bytes], pause_s: float = 0.02, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Sends the pieces of connection k one by one once a request came, then closes it. Later ones are refused."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for left, pieces in zip(range(len(connections) - 1, -1, -1), connections, strict=True):
            sock, _ = listener.accept()
            if not left:
                listener.close()
            with contextlib.suppress(ssl.SSLError), tls.wrap_socket(sock, server_side=True) if tls else sock as peer:
                peer.settimeout(10)
                for piece in pieces:
                    if piece == b"<request>":
                        peer.recv(65536)
                    else:
                        peer.sendall(piece)
                        time.sleep(pause_s)

    thread = threading.Thread(target=serve, daemon=True)
    url = f"{'https' if tls else 'http'}://127.0.0.1:{listener.getsockname()[1]}"
    thread.start()
    try:
        yield url
    finally:
        thread.join(10)
        listener.close()


HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOKEN = b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": "length"}]}\n\n'
END = b"data: [DONE]\n\n"


def chunk(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(body), body)


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_every_request_is_recorded_with_all_its_chunks(tmp_path: Path, api: str) -> None:
    result = run(tmp_path, api=api)
    assert [r.index for r in result.records] == list(range(10))
    assert all(r.ok and len(r.chunk_ns) == 8 and r.completion_tokens == 8 for r in result.records)
    assert all(r.prompt_tokens == (7 if api == "chat" else 3) for r in result.records)
    assert result.probe.connections == 4
    assert result.probe.reads + result.probe.coalesced_reads <= 80
    assert result.probe.loop_lag_ns
    assert not list((tmp_path / "work").iterdir())


def test_arrivals_follow_the_actual_sends_on_the_shared_clock(tmp_path: Path) -> None:
    with MockProcess(*QUICK, "--stamps", str(tmp_path / "stamps.json")) as mock:
        result = StreamClient().run(load(mock.url), workdir=tmp_path)
        sent = {row["index"]: row for row in mock.stamps()}
    assert result.t0_monotonic_ns is not None
    for record in result.records:
        arrivals = [t + result.t0_monotonic_ns for t in record.chunk_ns]
        assert record.sent_ns + result.t0_monotonic_ns <= sent[record.index]["read_ns"]
        assert all(a >= s for a, s in zip(arrivals, sent[record.index]["chunk_ns"], strict=True))


def test_a_slot_sends_its_next_request_when_its_last_answer_ended(tmp_path: Path) -> None:
    result = run(tmp_path, n=6, concurrency=2)
    ends = {r.done_ns for r in result.records}
    assert [r.intended_ns for r in result.records[:2]] == [0, 0]
    assert all(r.intended_ns in ends for r in result.records[2:])
    total = sum(r.done_ns - r.sent_ns for r in result.records) / 1e9
    assert result.probe.in_flight_s == pytest.approx(total, rel=1e-3)


def test_a_role_chunk_at_time_zero_is_no_first_token(tmp_path: Path) -> None:
    result = run(tmp_path, "--role-chunk", "zero", "--ttft-ms", "300")
    for record in result.records:
        assert record.first_byte_ns is not None and len(record.chunk_ns) == 8
        assert record.chunk_ns[0] - record.first_byte_ns > 150e6


def test_four_tokens_per_chunk_are_counted_by_usage(tmp_path: Path) -> None:
    result = run(tmp_path, "--tokens-per-chunk", "4", osl=17)
    assert all(len(r.chunk_ns) == 5 and r.completion_tokens == 17 for r in result.records)


def test_every_fifth_request_failing_is_exactly_a_fifth(tmp_path: Path) -> None:
    result = run(tmp_path, "--error-every", "5", n=20, keep_raw_every=0)
    failed = [r for r in result.records if not r.ok]
    assert len(failed) == 4
    assert all(r.status == 500 and (r.error or "").startswith("HTTP 500: fault injected") for r in failed)
    assert {r.index for r in failed} == {kept.index for kept in result.raw}


def test_a_cut_stream_is_an_error_and_the_run_goes_on(tmp_path: Path) -> None:
    result = run(tmp_path, "--cut-every", "4", n=12, concurrency=2)
    cut = [r for r in result.records if not r.ok]
    assert len(cut) == 3
    assert {r.error for r in cut} == {"stream cut after 4 content chunks"}
    assert result.probe.reconnects >= 2


def test_garbage_is_an_error_for_each_request(tmp_path: Path) -> None:
    result = run(tmp_path, "--garbage")
    assert len(result.records) == 10
    assert not any(r.ok for r in result.records)


def test_no_usage_is_unknown_not_an_error(tmp_path: Path) -> None:
    result = run(tmp_path, "--no-usage")
    assert all(r.ok and r.completion_tokens is None for r in result.records)


def test_a_wrong_model_shows_the_servers_own_words(tmp_path: Path) -> None:
    result = run(tmp_path, model="other")
    assert {r.error for r in result.records} == {"HTTP 404: The model `other` does not exist."}


def test_kept_raw_bytes_parse_to_the_same_record(tmp_path: Path) -> None:
    result = run(tmp_path, keep_raw_every=3)
    assert [kept.index for kept in result.raw] == [0, 3, 6, 9]
    for kept in result.raw:
        record = result.records[kept.index]
        again = parse_response(
            index=kept.index,
            intended_ns=record.intended_ns,
            sent_ns=record.sent_ns,
            done_ns=record.done_ns,
            reads=kept.reads,
        )
        assert replace(again.record, max_tokens=8) == record


def test_a_server_that_says_nothing_is_a_timeout(tmp_path: Path) -> None:
    result = run(tmp_path, "--ttft-ms", "60000", n=2, timeout_s=0.4)
    assert [r.error for r in result.records] == ["timeout", "timeout"]


def test_a_refused_connection_names_the_url(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unreachable, match=url):
        StreamClient().run(load(url), workdir=tmp_path)


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://no-such-host.invalid:1", Unreachable),
        ("ftp://127.0.0.1", WrongUse),
        ("http://user:secret@127.0.0.1", WrongUse),
        ("http://127.0.0.1/\r\nx: y", WrongUse),
        ("http://169.254.169.254", WrongUse),
        ("-http://x", WrongUse),
    ],
)
def test_a_target_that_cannot_be_meant_is_refused(tmp_path: Path, url: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        StreamClient().run(load(url), workdir=tmp_path)


def test_a_header_with_a_line_break_is_refused_without_showing_it(tmp_path: Path) -> None:
    with pytest.raises(WrongUse) as caught:
        StreamClient().run(load("http://127.0.0.1:1", headers=(("x", "tok-123\r\ny: z"),)), workdir=tmp_path)
    assert "tok-123" not in str(caught.value)


def test_secrets_reach_the_server_and_no_file_or_record(tmp_path: Path) -> None:
    """The server echoes the whole request, token included, as its error message."""
    body = b'{"error": {"message": "bad token tok-planted-123"}}'
    reply = b"HTTP/1.1 401 X\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
    secret = load("http://x", 1, headers=(("authorization", "Bearer tok-planted-123"),))
    line = wire.write_load(tmp_path / "load.json", secret)
    assert b"tok-planted-123" in line
    assert b"tok-planted-123" not in (tmp_path / "load.json").read_bytes()
    with server([b"<request>", reply]) as url:
        result = StreamClient().run(load(url, 1, headers=secret.headers), workdir=tmp_path)
    assert "tok-planted" not in repr(result)
    assert (result.records[0].error or "").startswith("HTTP 401: bad token ****")


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + chunk(TOKEN), chunk(END), b"0\r\n\r\n"],
        [HEAD, chunk(TOKEN), chunk(END) + b"0\r\n", b"\r\n"],
        [HEAD, chunk(TOKEN), chunk(END) + b"0\r\n\r", b"\n"],
        [HEAD[:20], HEAD[20:], chunk(TOKEN), chunk(END)[:-9], chunk(END)[-9:], b"0", b"\r\n\r\n"],
        [HEAD + chunk(TOKEN) + chunk(END) + b"0\r\n\r\n"],
        [HEAD, chunk(TOKEN) + chunk(END) + b"0\r\nserver-timing: x\r\n\r\n"],
        [HEAD, chunk(TOKEN), chunk(END) + b"000;x=y\r\n\r\n"],
        [HEAD, chunk(TOKEN.replace(b'"a"', b'"[DONE]"')), chunk(TOKEN), chunk(END), b"0\r\n\r\n"],
        [HEAD, chunk(TOKEN.replace(b"\n", b"\r\n")), chunk(END.replace(b"\n", b"\r\n")), b"0\r\n\r\n"],
        [b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(TOKEN + END), TOKEN, END],
    ],
    ids=lambda pieces: str(len(pieces)),
)
def test_the_end_of_an_answer_is_seen_at_once_however_it_is_cut(
    pieces: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both requests go over one connection, so the second is sent only if the end of the first was seen; and no later look
    at answers that went quiet would find an end that was missed."""
    monkeypatch.setattr(loop, "QUIET_NS", 1 << 62)
    with server([b"<request>", *pieces, b"<request>", *pieces]) as url:
        result = stream_worker.run(load(url, 2, concurrency=1, timeout_s=20.0))
    assert [r.error for r in result.records] == [None, None]
    assert result.probe.reconnects == 0


def test_an_end_that_the_quick_look_misses_is_found_a_second_later(tmp_path: Path) -> None:
    end = chunk(END)
    pieces = [HEAD, chunk(TOKEN), end[: end.index(b"ONE")], end[end.index(b"ONE") :] + b"0\r\nx: y\r\n\r\n"]
    with server([b"<request>", *pieces, b"<request>", *pieces]) as url:
        result = StreamClient().run(load(url, 2, concurrency=1, timeout_s=20.0, keep_raw_every=1), workdir=tmp_path)
    assert [r.error for r in result.records] == [None, None]
    # The first ended when its last bytes came, not when they were looked at; the second with its connection.
    assert result.records[0].done_ns == result.raw[0].reads[-1][0]


def test_a_server_that_closes_after_each_answer_is_reconnected_to(tmp_path: Path) -> None:
    closing = [
        b"<request>",
        HEAD.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n") + chunk(TOKEN) + chunk(END) + b"0\r\n\r\n",
    ]
    with server(closing, closing, closing) as url:
        result = StreamClient().run(load(url, 3, concurrency=1), workdir=tmp_path)
    assert [r.error for r in result.records] == [None] * 3
    assert result.probe.reconnects == 2


def test_https_is_spoken_and_the_certificate_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    files = [tmp_path / "key.pem", tmp_path / "cert.pem"]
    make = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1"
    command = [*make.split(), "-keyout", str(files[0]), "-out", str(files[1])]
    subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files[1], files[0])
    answer = [b"<request>", HEAD, chunk(TOKEN), chunk(END), b"0\r\n\r\n"]
    monkeypatch.setenv("SSL_CERT_FILE", str(files[1]))
    with server([*answer, *answer], tls=tls) as url:
        result = StreamClient().run(load(url, 2, concurrency=1), workdir=tmp_path / "w")
    assert [(r.error, len(r.chunk_ns)) for r in result.records] == [(None, 1)] * 2
    monkeypatch.delenv("SSL_CERT_FILE")
    with server(answer, tls=tls) as url, pytest.raises(Unreachable, match="certificate"):
        StreamClient().run(load(url, 1), workdir=tmp_path / "w")


def test_a_server_that_dies_fails_the_rest_and_the_run_ends(tmp_path: Path) -> None:
    with server([b"<request>", HEAD, chunk(TOKEN)]) as url:
        result = StreamClient().run(load(url, 3, concurrency=1, timeout_s=5.0), workdir=tmp_path)
    assert len(result.records) == 3
    assert not any(r.ok for r in result.records)
    assert result.records[0].error == "stream cut after 1 content chunks"


def test_the_worker_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """The parent here is a process that starts a worker on a silent server, and is then killed outright."""
    with MockProcess("--ttft-ms", "60000") as mock:
        headers = wire.write_load(tmp_path / "load.json", load(mock.url, 1))
        script = (
            "import subprocess, sys, time\n"
            f"p = subprocess.Popen([sys.executable, '-m', {WORKER!r}, sys.argv[1], sys.argv[2]], stdin=subprocess.PIPE)\n"
            f"p.stdin.write({headers!r}); p.stdin.flush(); print(p.pid, flush=True); time.sleep(60)\n"
        )
        command = [sys.executable, "-c", script, str(tmp_path / "load.json"), str(tmp_path / "result.json")]
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            time.sleep(1.0)
            assert _running(pid)
            parent.send_signal(signal.SIGKILL)
        deadline = time.monotonic() + 10
        while _running(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not _running(pid)


def _running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_fault_injection_is_seen_by_the_lag_probe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAO_STREAM_TEST_SLOW_MS", "30")
    result = run(tmp_path, n=4)
    lags = sorted(result.probe.loop_lag_ns)
    assert lags[len(lags) // 2] > 5e6
