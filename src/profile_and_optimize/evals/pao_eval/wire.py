"""Requests to the one server of a job: every one of them answered, or why not."""

from __future__ import annotations

import json
import os
import ssl
import threading
import time
from typing import Any

from .job import Job
from .told import NoAnswer

MOST_BYTES = 64 << 20
WAITS_S = (0.5, 1.0, 2.0, 4.0, 8.0)  # before each further try of a request
BUSY = (408, 425, 429, 502, 503, 504)


class Wire:
    """POSTs to the one server of the job: past any proxy, no redirect followed, answers bounded in size and time."""

    def __init__(self, job: Job) -> None:
        self.url, self.timeout_s = job.url, job.timeout_s
        self.local = threading.local()
        self.last = "it was not asked"

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Raises NoAnswer: at once where the server refuses the request, after every try where it is away or busy."""
        why = ""
        for wait in (*WAITS_S, None):
            status, text = self._once(path, body)
            if status == 200:
                return as_object(text)
            why = f"POST {path} answered {status}: {text[:200]}" if status else text
            if wait is None or (status and status < 500 and status not in BUSY):
                break
            time.sleep(wait)
        raise NoAnswer(why)

    def status(self, path: str, body: dict[str, Any]) -> int:
        """What the server answers to this, once it is neither away nor busy; 0 where it stays away. `last` says it in words."""
        for wait in (*WAITS_S, None):
            status, text = self._once(path, body)
            self.last = f"POST {path} answered {status}: {text[:200]}" if status else text
            if wait is None or (status and status not in BUSY):
                break
            time.sleep(wait)
        return status

    def _once(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        import requests

        session = getattr(self.local, "session", None)
        if session is None:
            session = self.local.session = requests.Session()
            session.trust_env = False
            session.verify = (
                ssl.get_default_verify_paths().cafile or True
            )  # the system's authorities, as our other calls
        key = os.environ.get("OPENAI_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            with session.post(
                self.url + path, json=body, headers=headers, timeout=self.timeout_s, allow_redirects=False, stream=True
            ) as answer:
                return answer.status_code, bounded(answer, time.monotonic() + self.timeout_s)
        except (requests.RequestException, ValueError) as e:
            why = "it takes no connection" if isinstance(e, requests.ConnectionError) else str(e)[:200]
            return 0, f"POST {path}: {type(e).__name__}: {why}"


def bounded(answer: Any, until: float) -> str:
    data = b""
    for piece in answer.iter_content(1 << 16):
        data += piece
        if len(data) > MOST_BYTES or time.monotonic() > until:
            raise ValueError("an answer that does not end")
    return data.decode(errors="replace")


def as_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NoAnswer(f"not a completion: {text[:100]}")
    return found
