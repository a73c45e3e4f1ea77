"""Small questions over HTTP: the smoke test, prompt calibration and accuracy questions. Never on a timed path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.engines.calls import Headers, Reply, caller


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of one completion and the usage the server gave (None where it gave none)."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None


def ask(
    url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, headers: Headers = (), timeout_s: float = 120.0,
) -> Answer:  # fmt: skip
    """One greedy completion. Raises Unreachable naming what came back instead."""
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens, "temperature": 0.0}
    body |= {"messages": [{"role": "user", "content": prompt}]} if api == "chat" else {"prompt": prompt}
    path = "/v1/chat/completions" if api == "chat" else "/v1/completions"
    try:
        with caller(headers) as http:
            answer = http.call("POST", url + path, json=body, timeout_s=timeout_s)
    except Unreachable as e:
        raise Unreachable(f"POST {path}: {e.message}", where=url, next="check that the server runs") from e
    return _read(answer, url, path, api)


def _read(answer: Reply, url: str, path: str, api: str) -> Answer:
    if answer.status != 200:
        said = "".join(c for c in answer.text[:200] if c.isprintable())
        raise Unreachable(f"POST {path} answered {answer.status}: {said}", where=url, next="check --model and --api")
    try:
        data = answer.json()
        choice = data["choices"][0]
        text = (
            choice["message"].get("content") or choice["message"].get("reasoning_content") or ""
            if api == "chat"
            else choice["text"]
        )
        usage = data.get("usage") or {}
        return Answer(str(text), _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise Unreachable(
            f"POST {path} did not answer a completion", where=url, next="give the root of an OpenAI server"
        ) from e


def _count(value: object) -> int | None:
    """A server may call anything a count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
