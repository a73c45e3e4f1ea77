"""Chromium under the DevTools protocol, over a pair of pipes: no port, no driver and no library between.

Messages are JSON, each ended by a zero byte (`--remote-debugging-pipe`: Chromium reads from descriptor 3 and writes to 4).
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHROMIUM = shutil.which("chromium")
# What a fresh profile would otherwise look up by itself.
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-extensions", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
# Descriptors of a child are taken as they are numbered here; the shell puts them where Chromium wants them.
OPEN = 'exec 3<&"$0" 4>&"$1"; shift; exec "$@"'
ABOVE = 40
LIMIT_S = 60.0
FRAMES = "new Promise(r => requestAnimationFrame(() => requestAnimationFrame(r)))"


class Page:
    """One page. `events` are all that Chromium told of it, in order."""

    def __init__(self, profile: Path) -> None:
        child_reads, self._to = os.pipe()
        self._from, child_writes = os.pipe()
        ends = [fcntl.fcntl(fd, fcntl.F_DUPFD, ABOVE) for fd in (child_reads, child_writes)]
        argv = ["bash", "-c", OPEN, *map(str, ends), str(CHROMIUM), *QUIET, f"--user-data-dir={profile}"]
        self._process = subprocess.Popen(
            argv, pass_fds=ends, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (child_reads, child_writes, *ends):
            os.close(fd)
        self._buffer, self._last, self._session = b"", 0, ""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The answer to one command. Events that come meanwhile are kept. Raises AssertionError for an error or silence."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": params}
        message |= {"sessionId": self._session} if self._session else {}
        os.write(self._to, json.dumps(message).encode() + b"\0")
        until = time.monotonic() + LIMIT_S
        while True:
            found = self._next(until, method)
            if found.get("id") == self._last:
                assert "error" not in found, (method, found)
                return dict(found["result"])
            self.events.append(found)

    def wait(self, method: str) -> dict[str, Any]:
        """The next event of that name, or the last one that came unasked."""
        until = time.monotonic() + LIMIT_S
        while method not in [e.get("method") for e in self.events]:
            self.events.append(self._next(until, method))
        return next(e for e in reversed(self.events) if e.get("method") == method)

    def _next(self, until: float, what: str) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._from], [], [], max(0.0, until - time.monotonic()))
            assert ready, f"chromium did not answer {what}"
            data = os.read(self._from, 1 << 20)
            assert data, f"chromium ended at {what}"
            self._buffer += data
        one, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(one))

    def open(self, url: str) -> None:
        self.events.clear()
        self.call("Page.navigate", url=url)
        self.wait("Page.loadEventFired")
        self.ask(FRAMES)

    def ask(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, told: Callable[[], object]) -> None:
        """Waits for what the page shows in the end. Raises AssertionError when it does not."""
        end = time.monotonic() + LIMIT_S
        while not told():
            assert time.monotonic() < end, "the page did not show it"
            self.ask(FRAMES)

    def point_at(self, selector: str) -> None:
        """Scroll an element into view, and when that is over move the mouse to its middle."""
        found = f"document.querySelector({json.dumps(selector)})"
        self.ask(f"{found}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
        self.ask(FRAMES)
        at = self.ask(f"(r => [r.left + r.width / 2, r.top + r.height / 2])({found}.getBoundingClientRect())")
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=at[0], y=at[1])
        self.ask(FRAMES)

    def type(self, selector: str, text: str) -> None:
        """Replace what stands in a field, as if typed."""
        self.ask(f"(() => {{ const e = document.querySelector({json.dumps(selector)}); e.focus(); e.select(); }})()")
        if text:
            self.call("Input.insertText", text=text)
        else:
            for kind in ("keyDown", "keyUp"):
                self.call("Input.dispatchKeyEvent", type=kind, key="Delete", code="Delete", windowsVirtualKeyCode=46)

    def size(self, width: int, height: int = 900) -> None:
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def colours(self, scheme: str) -> None:
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, *, whole: bool = False) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", captureBeyondViewport=whole)["data"])

    def pdf(self) -> bytes:
        return base64.b64decode(self.call("Page.printToPDF", preferCSSPageSize=True, printBackground=True)["data"])

    def requests(self) -> list[str]:
        """Every address that was asked for since the page was opened."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def complaints(self) -> list[Any]:
        """What stands in the console: errors, warnings, and anything that a script printed."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [e["params"] for e in self.events if e.get("method") in kinds]

    def close(self) -> None:
        """Ends Chromium; it ends by itself when its pipe is closed."""
        os.close(self._to)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(20)
        os.close(self._from)
