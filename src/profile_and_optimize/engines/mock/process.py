"""The mock as a process of ours: started on a free port, stopped by its pid."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from types import TracebackType
from typing import Any, Self

from profile_and_optimize.core.errors import BrokeMidway

STOP_WITHIN_S = 10.0
ASK_WITHIN_S = 10.0


class MockProcess:
    """`with MockProcess("--ttft-ms", "5") as mock: mock.url`. `prefix` goes before the command, e.g. taskset."""

    def __init__(self, *flags: str, prefix: tuple[str, ...] = ()) -> None:
        self._command = [*prefix, sys.executable, "-P", "-m", "profile_and_optimize.engines.mock.server", *flags]
        self.url = ""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if "http://" not in line:
            raise BrokeMidway(f"the mock server did not start (exit {self._process.wait(STOP_WITHIN_S)})")
        self.url = line.split()[-1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def get(self, path: str) -> str:
        """GET from it, past any proxy of the environment."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(self.url + path, timeout=ASK_WITHIN_S) as response:
            return str(response.read().decode())

    def stamps(self) -> list[dict[str, Any]]:
        """Per request: index, read_ns, start_ns, tokens, chunk_ns, outcome, tag. Needs the flag --stamps."""
        return list(json.loads(self.get("/stamps"))["requests"])
