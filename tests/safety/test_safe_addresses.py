"""Where a URL may lead: to no metadata service in any spelling, through no proxy, after no redirect, into no endless answer."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from hostile import Answer, serving

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.calibration import has_stamps
from profile_and_optimize.clients.stream import StreamClient
from profile_and_optimize.clients.target import parse_target, resolve
from profile_and_optimize.core.errors import Unreachable, WrongUse
from profile_and_optimize.core.urls import parse_url
from profile_and_optimize.engines import calls
from profile_and_optimize.engines.base import Server
from profile_and_optimize.engines.endpoint import EndpointEngine, served_model
from profile_and_optimize.engines.mock.process import MockProcess
from profile_and_optimize.engines.prometheus import scrape
from profile_and_optimize.engines.smoke import ask
from profile_and_optimize.engines.urls import checked_url

KEY = (("Authorization", "Bearer planted-key-123"),)
SPELLINGS = (
    "0251.0376.0251.0376", "0xA9.0xFE.0xA9.0xFE", "169.16689662", "169.254.43518", "169.254.169.254.", "169。254。169。254",
    "１６９.２５４.１６９.２５４", "①⑥⑨.254.169.254", "169%2e254%2e169%2e254", "[::ffff:a9fe:a9fe]", "[::169.254.169.254]",
    "[64:ff9b::a9fe:a9fe]", "[2002:a9fe:a9fe::1]", "[fe80::1]", "[fe80::1%25eth0]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200",
    "192.0.0.192", "168.63.129.16", "METADATA.google.internal", "metadata.goog", "224.0.0.1",
    "127.0.0.1@169.254.169.254", "@169.254.169.254", "169.254.169.254@127.0.0.1", "127.0.0.1\\@169.254.169.254", "169.254.\n169.254",
    "127.0.0.1#@169.254.169.254", "127.0.0.1?@169.254.169.254",
)  # fmt: skip


@pytest.mark.parametrize("host", SPELLINGS)
def test_a_metadata_address_is_refused_in_every_spelling(host: str) -> None:
    """The plain, decimal, hex and mapped ones: tests/engines/test_engines.py."""
    with pytest.raises(WrongUse):
        checked_url(f"http://{host}/latest/meta-data")


def test_addresses_that_are_only_near_one_are_taken() -> None:
    for url in (
        "http://169.253.169.254",
        "http://[::1]:8000",
        "http://10.0.0.1",
        "http://localhost:1",
        "http://node-1.rack-2.example:8000",
        "http://[::ffff:7f00:1]",
    ):
        assert checked_url(url) == url


@pytest.mark.parametrize("host", [
    "127.1", "127.0.0.1.1", "0x7f.1", "0177.0.0.1", "127.0.0.08", "2130706433", "127.0.0.1.2130706433", "0x", "1.0x7f000001",
    "[::1%lo]",    "[::1%25lo]", "[::1", "::1", "[127.0.0.1]", "[v1.x]", "node_1", "-a", "a-", "a..b", ".a", "a..", ".", "a" * 64,
    "a." * 127 + "ab",
    "a*b",    "a,b", "a;b", "a b", "a\tb", "a\0b", "a'b", "a(b)", "a%41", "ä", "xn--a b", "ſ", "\u212a", "a\u200bb", "a\u3002b", "$a",
    "a|b", "a^b", "a`b",
    "<a>",
])  # fmt: skip
def test_a_host_is_an_ldh_name_or_an_address_written_out(host: str) -> None:
    for url in (f"http://{host}", f"http://{host}:80/x", f"HTTPS://{host}/"):
        with pytest.raises(WrongUse):
            parse_url(url)


@pytest.mark.parametrize("url", [
    "http:/127.0.0.1", "http:127.0.0.1", "http:\\\\127.0.0.1", "http:///127.0.0.1", "//127.0.0.1", "http://h:", "http://h:0",
    "http://h:65536",    "http://h:+80", "http://h:8_0", "http://h:٣", "http://h:80:80", "http://h:80a", "http://h/#x", "http://h#x",
    "http://h\\x", "http://h/a b",
    " http://h", "http://h ", "http://h\n", "http://h/\u202e", "http://h/<x>", "http://u@h", "http://u:p@h", "http://@h", "http://u%40x@h",
    "http://127.0.0.1:80@h", "ftp://h", "file:///x", "http+unix://h", "javascript://h", "http://", "http://?x", "", "h", "h:80",
])  # fmt: skip
def test_a_url_has_one_reading_or_none(url: str) -> None:
    with pytest.raises(WrongUse):
        parse_url(url)


def test_what_is_read_is_what_every_other_parser_of_ours_would_connect_to() -> None:
    """The library's two readers agree on every URL that ours lets through: host, port and path."""
    for text in (
        "http://h", "HTTP://H.Example.:8080/v1?x=1&y=%20", "https://[0:0:0:0:0:0:0:1]:443/a;b", "http://127.0.0.1:1/~x/'(a)*",
        "http://a.b-c.d1",
    ):  # fmt: skip
        ours, theirs, split = parse_url(text), httpx.URL(text), urlsplit(text)
        assert ours.host == theirs.host.removesuffix(".").replace("0:0:0:0:0:0:0:1", "::1")
        assert ours.written == split.port and ours.port == (split.port or {"http": 80, "https": 443}[ours.scheme])
        assert (ours.path, ours.query, ours.scheme) == (split.path, split.query, split.scheme)


def test_the_dot_behind_a_name_and_the_case_of_letters_change_nothing() -> None:
    assert checked_url("HTTP://LocalHost.:8000/V1/v1/") == "http://localhost:8000/V1"
    assert parse_url("http://[2001:DB8::0:1]").literal == "[2001:db8::1]"


Names = Callable[..., list[Any]]


def names(monkeypatch: pytest.MonkeyPatch, table: dict[str, list[str]]) -> list[str]:
    """Makes the resolver answer from a table: an address a look-up, the last one for ever. Gives the look-ups."""
    asked: list[str] = []
    real: Names = socket.getaddrinfo

    def lookup(host: str, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        if host not in table:
            return real(host, port, *args, **kwargs)
        asked.append(host)
        given = table[host]
        address = given.pop(0) if len(given) > 1 else given[0]
        return [(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return asked


def asks(url: str) -> list[Callable[[], object]]:
    """Every way in which we talk to a server off the timed path."""
    engine, server = EndpointEngine(KEY), Server(url, "m", 0.0)
    return [
        lambda: served_model(url, KEY), lambda: ask(url, "m", "hi", headers=KEY), lambda: scrape(url, KEY),
        lambda: engine.observed(server), lambda: engine.counters(server), lambda: has_stamps(url),
    ]  # fmt: skip


@pytest.mark.parametrize("address", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"])
def test_a_name_that_stands_for_a_metadata_address_is_refused(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    names(monkeypatch, {"friend.example": [address]})
    for one in [*asks("http://friend.example:1"), lambda: resolve(parse_target("http://friend.example:1"))]:
        with pytest.raises(WrongUse, match="metadata"):
            one()


def test_the_address_that_was_judged_is_the_one_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that changes its address between two look-ups is looked up once."""
    asked = names(monkeypatch, {"rebinds.example": ["127.0.0.1", "169.254.169.254"]})
    with serving(lambda *_: (200, {}, b'{"data": [{"id": "m"}]}')) as evil:
        url = evil.url.replace("127.0.0.1", "rebinds.example")
        assert served_model(url) == "m"
    assert asked == ["rebinds.example"] and evil.seen[0][1]["host"].startswith("rebinds.example:")


def test_the_next_address_of_a_name_is_tried() -> None:
    with serving(lambda *_: (200, {}, b'{"data": [{"id": "m"}]}')) as evil:
        assert served_model(evil.url.replace("127.0.0.1", "localhost")) == "m"


def load(url: str, n: int = 2) -> LoadRequest:
    prompts = tuple(f"prompt {i}" for i in range(n))
    return LoadRequest(url, "mock", "chat", prompts, 4, 2, timeout_s=10.0, headers=KEY, fifo=False)


@pytest.mark.parametrize("status", [302, 307])
def test_no_redirect_is_followed_and_no_key_is_carried_to_another_host(status: int, tmp_path: Path) -> None:
    listing = b'{"data": [{"id": "m"}], "requests": []}'
    with (
        serving(lambda *_: (200, {}, listing)) as other,
        serving(lambda _, path, __: (status, {"Location": other.url + path}, b"")) as evil,
    ):
        for one in asks(evil.url)[:2]:
            with pytest.raises(Unreachable, match=str(status)):
                one()
        for one in asks(evil.url)[2:]:
            one()
        if status == 307:
            run = StreamClient().run(load(evil.url), workdir=tmp_path)
            assert {r.error for r in run.records} == {"HTTP 307 (redirects are not followed)"}
        assert not has_stamps(evil.url) and not scrape(evil.url).values
    assert other.seen == [] and evil.seen


def test_a_proxy_of_the_environment_sees_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with serving(lambda *_: (200, {}, b"{}")) as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.lower(), proxy.url)
        with MockProcess("--ttft-ms", "1", "--itl-ms", "1") as mock:
            assert served_model(mock.url, KEY) == "mock" and ask(mock.url, "mock", "hi", headers=KEY).text
            assert scrape(mock.url, KEY).values and not has_stamps(mock.url)
            assert all(r.ok for r in StreamClient().run(load(mock.url), workdir=tmp_path).records)
    assert proxy.seen == []


def bomb(method: str, path: str, headers: dict[str, str]) -> Answer:
    return 200, {"Content-Encoding": "gzip"}, gzip.compress(bytes(4 << 20), 9)


@pytest.mark.parametrize("say", [bomb, lambda *_: (200, {}, bytes(2 << 20))])
def test_an_answer_beyond_all_measure_is_not_taken_in(
    monkeypatch: pytest.MonkeyPatch, say: Callable[..., Answer]
) -> None:
    monkeypatch.setattr(calls, "MOST_BYTES", 1 << 20)
    with serving(say) as evil:
        with pytest.raises(Unreachable, match="more than 1 MiB"):
            calls.get(evil.url)
        assert scrape(evil.url).values == {}


def test_an_answer_that_drips_for_ever_ends_with_our_patience() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            peer, _ = listener.accept()
            with peer:
                peer.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
                try:
                    while True:
                        peer.sendall(b"x")
                        threading.Event().wait(0.02)
                except OSError:
                    pass

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        with pytest.raises(Unreachable, match="does not end"):
            calls.get(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.2)
        thread.join(10)
        assert not thread.is_alive()


ODD_MODELS = (
    b"[" * 5000, b'{"data": "abc"}', b'{"data": [1]}', b'{"data": []}', b'{"data": [{"id": "\\ud800"}]}', b"\xff", b'{"data": {}}', b"NaN",
    b'{"data": [{"id": "' + b"x" * 100_000 + b'"}]}',
)  # fmt: skip


@pytest.mark.parametrize("body", ODD_MODELS)
def test_whatever_a_server_calls_its_models_is_a_named_error_of_bounded_length(body: bytes) -> None:
    with serving(lambda *_: (200, {}, body)) as evil:
        with pytest.raises(Unreachable) as e:
            served_model(evil.url, wanted="m")
        assert len(str(e.value)) < 1000
        assert EndpointEngine().observed(Server(evil.url, "m", 0.0))["served_model"] == "m"


@pytest.mark.parametrize("usage", ['"7"', "[7]", "-1", "true", "1.5", "{}"])
def test_a_count_that_is_none_is_unknown(usage: str) -> None:
    said = {"choices": [{"message": {"content": "4"}}]}
    body = json.dumps(said).encode()[:-1] + f', "usage": {{"prompt_tokens": {usage}}}}}'.encode()
    with serving(lambda *_: (200, {}, body)) as evil:
        assert ask(evil.url, "m", "2 + 2").prompt_tokens is None
