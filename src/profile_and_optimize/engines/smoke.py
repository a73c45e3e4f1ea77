"""Small questions over HTTP: the smoke test, prompt calibration and accuracy questions. Never on a timed path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

from profile_and_optimize.core.errors import Unreachable


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of one completion and the usage the server gave (None where it gave none)."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


def ask(
    url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, headers: tuple[tuple[str, str], ...] = (),
    http: httpx.Client | None = None, timeout_s: float = 120.0,
) -> Answer:  # fmt: skip
    """One greedy completion. Raises Unreachable naming what came back instead."""
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": 0.0}
    body |= {"messages": [{"role": "user", "content": prompt}]} if api == "chat" else {"prompt": prompt}
    path = "/v1/chat/completions" if api == "chat" else "/v1/completions"
    post = http.post if http else httpx.post
    extra: dict[str, Any] = {} if http else {"trust_env": False}
    try:
        answer = post(url + path, json=body, headers=dict(headers), timeout=timeout_s, **extra)
    except httpx.HTTPError as e:
        raise Unreachable(f"POST {path}: {e or type(e).__name__}", where=url, next="check that the server runs") from e
    return _read(answer, url, path, api)


def _read(answer: httpx.Response, url: str, path: str, api: str) -> Answer:
    if answer.status_code != 200:
        said = "".join(c for c in answer.text[:200] if c.isprintable())
        raise Unreachable(
            f"POST {path} answered {answer.status_code}: {said}", where=url, next="check --model and --api"
        )
    try:
        data = answer.json()
        choice = data["choices"][0]
        text = (
            choice["message"].get("content") or choice["message"].get("reasoning_content") or ""
            if api == "chat"
            else choice["text"]
        )
        usage = data.get("usage") or {}
        return Answer(str(text), usage.get("prompt_tokens"), usage.get("completion_tokens"))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise Unreachable(
            f"POST {path} did not answer a completion", where=url, next="give the root of an OpenAI server"
        ) from e
