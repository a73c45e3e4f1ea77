"""A data set from a hub of our own on loopback: what is fetched, kept and recorded, and which answers are not taken."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import BrokeMidway, Corrupted, Unreachable, WrongUse
from profile_and_optimize.core.workload import Workload
from profile_and_optimize.workloads import hub
from profile_and_optimize.workloads.data import data_sets, given_files, place_of, with_data

BODY = json.dumps([{"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]}]).encode()
SHARED = Workload("sharegpt", 64, 64, "hub:sharegpt", kind="conversations")
Answer = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Hub:
    """`answer` is what it does; `asked` are method, path and authorization of every request."""

    url: str
    answer: Answer
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def file(self, name: str = "f.json") -> str:
        return f"{self.url}/{name}"


def ok(body: bytes = BODY, *, length: int | None = None, etag: str = "", commit: str = "c0ffee") -> Answer:
    def answer(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.send_header("Content-Length", str(len(body) if length is None else length))
        h.send_header("X-Repo-Commit", commit)
        if etag:
            h.send_header("X-Linked-Etag", f'"{etag}"')
        h.end_headers()
        if h.command == "GET":
            h.wfile.write(body)

    return answer


def status(code: int, location: str = "") -> Answer:
    def answer(h: BaseHTTPRequestHandler) -> None:
        h.send_response(code)
        if location:
            h.send_header("Location", location)
        h.send_header("Content-Length", "0")
        h.end_headers()

    return answer


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked.append((self.command, self.path, self.headers.get("Authorization")))
            found.answer(self)

        do_HEAD = do_GET

        def log_message(self, *args: object) -> None:
            return None

    class Server(ThreadingHTTPServer):
        def handle_error(self, *args: object) -> None:
            return None  # a client that hangs up early is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    found = Hub(f"http://127.0.0.1:{server.server_port}", ok())
    monkeypatch.setenv("HF_ENDPOINT", found.url)
    monkeypatch.setenv("PAO_DATA_DIR", str(tmp_path / "kept"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join(10)


def test_a_data_set_is_fetched_once_kept_and_its_digest_goes_into_the_workload(served: Hub) -> None:
    found = with_data(SHARED)
    assert found.sha256 == hashlib.sha256(BODY).hexdigest() and Path(found.file).read_bytes() == BODY
    assert found.dataset == "hub:sharegpt"
    wanted = data_sets()["sharegpt"]
    record = json.loads((wanted.kept.parent / (wanted.file + ".fetched.json")).read_text())
    assert record == {"url": wanted.url, "bytes": len(BODY), "sha256": found.sha256, "commit": "c0ffee"}
    assert served.asked == [("GET", f"/datasets/{wanted.repo}/resolve/main/{wanted.file}", None)]
    with_data(SHARED)
    assert len(served.asked) == 1, "the kept file is enough"


def test_a_kept_file_that_somebody_changed_is_not_used(served: Hub) -> None:
    path = Path(with_data(SHARED).file)
    path.write_bytes(BODY.replace(b"q", b"Q"))
    with pytest.raises(Corrupted, match="not the file as it was fetched"):
        with_data(SHARED)


def test_what_to_do_is_said_when_the_hub_is_out_of_reach(
    served: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(Unreachable, match="needs the data set sharegpt, and it cannot be fetched") as e:
        with_data(SHARED)
    assert "--data sharegpt=FILE" in e.value.next and "another suite" in e.value.next
    assert not list((tmp_path / "kept").rglob("*.json"))
    assert place_of(SHARED, look=True).there is False and place_of(SHARED, look=False).there is None


def test_a_look_asks_for_the_head_alone_and_leaves_nothing(served: Hub, tmp_path: Path) -> None:
    assert place_of(SHARED, look=True).there is True
    assert [m for m, _, _ in served.asked] == ["HEAD"] and not (tmp_path / "kept").exists()


def test_a_redirect_within_the_host_is_followed_and_the_token_goes_along(
    served: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    served.answer = lambda h: (ok() if h.path == "/real" else status(302, "/real"))(h)
    assert hub.fetch(served.file(), tmp_path / "f", 10_000, print).bytes == len(BODY)
    assert [(p, a) for _, p, a in served.asked] == [("/f.json", "Bearer hf_secret"), ("/real", "Bearer hf_secret")]


@pytest.mark.parametrize(
    "to",
    ["http://localhost:1/x", "https://cdn-lfs.huggingface.co/x", "file:///etc/passwd", "http://169.254.169.254/", ""],
)
def test_a_redirect_to_another_host_is_not_followed(to: str, served: Hub, tmp_path: Path) -> None:
    served.answer = status(302, to)
    with pytest.raises(Unreachable, match="a redirect to"):
        hub.fetch(served.file(), tmp_path / "f", 10_000, print)
    assert len(served.asked) == 1 and list(tmp_path.iterdir()) == []


def test_the_hub_itself_may_hand_over_to_its_own_hosts_over_https_and_gives_them_no_token(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = "https://huggingface.co/datasets/a/b/resolve/main/f"
    assert hub._next(first, first, "https://cdn-lfs-us-1.hf.co/x?sig=1") == "https://cdn-lfs-us-1.hf.co/x?sig=1"
    for to in ("http://cdn-lfs.hf.co/x", "https://evilhf.co/x", "https://hf.co.evil.example/x"):
        with pytest.raises(Unreachable, match="not followed"):
            hub._next(first, first, to)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    assert "Authorization" in hub._headers(first, first)
    assert "Authorization" not in hub._headers("https://cdn-lfs-us-1.hf.co/x", first)


def test_redirects_without_end_end(served: Hub, tmp_path: Path) -> None:
    served.answer = lambda h: status(302, h.path + "x")(h)
    with pytest.raises(Unreachable, match="more than 5 redirects"):
        hub.fetch(served.file(), tmp_path / "f", 10_000, print)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (ok(b"x" * 2000), BrokeMidway, "2000 bytes; at most 1000"),
        (ok(b"x" * 500, length=900), BrokeMidway, "broke off after|500 bytes, 900 were announced"),
        (ok(etag="ab" * 32), BrokeMidway, "the hub lists abababababab"),
        (status(404), Unreachable, "answered 404"),
        (status(401), Unreachable, "needs an account"),
        (status(500), Unreachable, "answered 500"),
    ],
)
def test_answers_that_are_not_the_file_leave_nothing_behind(
    answer: Answer, error: type[Exception], words: str, served: Hub, tmp_path: Path
) -> None:
    served.answer = answer
    with pytest.raises(error, match=words):
        hub.fetch(served.file(), tmp_path / "f", 1000, print)
    assert list(tmp_path.iterdir()) == []


def test_a_stream_without_a_length_is_bounded_too(served: Hub, tmp_path: Path) -> None:
    def endless(h: BaseHTTPRequestHandler) -> None:
        h.send_response(200)
        h.end_headers()
        h.wfile.write(b"x" * 5_000_000)

    served.answer = endless
    with pytest.raises(BrokeMidway, match="more than 1000 bytes"):
        hub.fetch(served.file(), tmp_path / "f", 1000, print)


def test_metadata_addresses_are_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://169.254.169.254")
    with pytest.raises(WrongUse, match="metadata"):
        hub.file_url("a/b", "main", "f")
    with pytest.raises(WrongUse, match="metadata"):
        hub.fetch("http://169.254.169.254/f", tmp_path / "f", 1000, print)


def test_what_is_fetched_must_be_conversations(served: Hub) -> None:
    served.answer = ok(b"<html>not found</html>")
    with pytest.raises(WrongUse, match="not JSON"):
        with_data(SHARED)


def test_names_and_files_are_taken_apart_at_the_commas_before_names() -> None:
    assert given_files("sharegpt=a,b.json,sonnet=/x=y.txt") == {"sharegpt": "a,b.json", "sonnet": "/x=y.txt"}
    assert given_files(None) == {}
    for wrong in ("sharegpt", "sharegpt=", "=f", "a=1,a=2"):
        with pytest.raises(WrongUse, match="NAME=FILE"):
            given_files(wrong)
