"""What attackers write and serve: texts that try to get out of a page or a terminal, and a server that says anything."""

from __future__ import annotations

import re
import socket
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Colour, title, a link that shows another place, the clipboard, bidi and zero width, a line that looks like ours.
ESCAPES = (
    "\x1b[31m\x1b]0;owned\x07\x1b]8;;http://evil.example\x1b\\click\x1b]8;;\x1b\\\x1b]52;c;aGk=\x07\x1b[2J\x1bPq\x1b\\\x9b31m"
    "\u202e\u2066\u200b\u2028\r\n12:00:00 error: forged\x08\x00"
)
MARKUP = "</script><script>alert(1)</script><img src=x onerror=alert(1)>![i](http://evil.example/i) [l](javascript:alert(1)) |`*_#"
HOSTILE = MARKUP + ESCAPES
SHELL = "m'\"$(touch pwned)`touch pwned`;touch pwned|touch pwned&&touch pwned>pwned $HOME ${PATH} *?~#!\\ -x"
# A run's folder can be named anything.
FOLDER = "20260921T141320Z-<img src=x onerror=alert(1)>$(touch pwned)`touch pwned`;touch pwned\x1b[31m\u202e\n# pwned"

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class Evil:
    """A server whose answers `say(method, path, headers)` gives; `seen` keeps every request line with its headers."""

    url: str
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@contextmanager
def serving(say: Callable[[str, str, dict[str, str]], Answer]) -> Iterator[Evil]:
    evil = Evil("")

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            headers = {k.lower(): v for k, v in self.headers.items()}
            self.rfile.read(int(headers.get("content-length", 0)))
            evil.seen.append((f"{self.command} {self.path}", headers))
            status, more, body = say(self.command, self.path, headers)
            self.send_response_only(status)
            for name, value in {"Content-Length": str(len(body)), "Connection": "close", **more}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_HEAD = _answer

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    evil.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield evil
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


@contextmanager
def sending(pieces: list[bytes], connections: int, pause_s: float = 0.03) -> Iterator[str]:
    """A server that sends these pieces one by one after each request, whatever it says; a read of the client each."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        for _ in range(connections):
            peer, _ = listener.accept()
            with peer:
                peer.settimeout(10)
                peer.recv(65536)
                for piece in pieces:
                    peer.sendall(piece)
                    time.sleep(pause_s)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        thread.join(10)
        listener.close()


def moves_a_terminal(text: str) -> list[str]:
    """The characters in a text that a terminal acts on, beside line ends and tabs."""
    return [c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]


def forged(text: str) -> list[str]:
    """Lines that a server made look like ours."""
    return [line for line in text.splitlines() if re.match(r"12:00:00 error: forged", line)]
