"""A server on the loopback that answers sums, with the habits that an evaluation has to live with."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from profile_and_optimize.evals.pao_eval.sampling import NEUTRAL


class Answering:
    """`seen` are (path, body, headers) of every request. `answer` makes the text of a prompt; it may be replaced."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, dict[str, Any], dict[str, str]]] = []
        self.url = ""
        self.name = "sums"
        self.status = 200
        self.fail_first = 0
        self.location = ""
        self.answer = sums
        self.finish: Callable[[str], str | None] = lambda said: "stop"
        self.unknown: tuple[str, ...] = ()

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.fail_first > 0:
            self.fail_first -= 1
            return 503, {"error": "busy"}
        if self.status != 200:
            return self.status, {"error": "no"}
        sampling = {k: v for k, v in body.items() if k in (*NEUTRAL, "temperature", "seed")}
        if set(sampling) & set(self.unknown) or not all(isinstance(v, int | float) for v in sampling.values()):
            return 400, {"error": "not a parameter of this server, or not a number"}
        if path == "/tokenize":
            return 200, {"tokens": [ord(c) for c in body["prompt"]]}
        if path == "/v1/chat/completions":
            said = self.answer(body["messages"][-1]["content"], chat=True)
            return 200, {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": self.finish(said)}]}
        if body.get("echo"):
            return 200, {"choices": [{"index": 0, "text": "", "logprobs": likelihoods(body["prompt"])}]}
        said = self.answer(body["prompt"], chat=False)
        return 200, {"choices": [{"index": 0, "text": said, "finish_reason": self.finish(said)}]}


def is_probe(body: dict[str, Any]) -> bool:
    """One of the small requests by which a server is asked what it takes."""
    return body.get("max_tokens") == 1 and "echo" not in body


def sums(prompt: str, *, chat: bool) -> str:
    """The last sum of the prompt, worked out; "no" where there is none."""
    found = re.findall(r"(\d+) ([+-]) (\d+)", prompt)
    return str(int(found[-1][0]) + int(found[-1][1] + found[-1][2])) if found else "no"


def likelihoods(prompt: list[int]) -> dict[str, Any]:
    """Every token likely but Z; the last pair is of the one generated token."""
    chances: list[float | None] = [None, *(-5.0 if token == ord("Z") else -0.1 for token in prompt[1:]), -1.0]
    return {"token_logprobs": chances, "top_logprobs": [None, *({"x": -0.1} for _ in chances[1:])]}


@contextmanager
def answering() -> Iterator[Answering]:
    made = Answering()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            return None

        def do_GET(self) -> None:
            self._send(200, {"data": [{"id": made.name}]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            made.seen.append((self.path, body, dict(self.headers)))
            if made.location:
                self.send_response(307)
                self.send_header("location", made.location + self.path)
                self.send_header("content-length", "0")
                self.end_headers()
                return
            self._send(*made.reply(self.path, body))

        def _send(self, status: int, value: dict[str, Any]) -> None:
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
