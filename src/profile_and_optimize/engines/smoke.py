"""Small questions over HTTP: the smoke test, prompt calibration and accuracy questions. Never on a timed path."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from profile_and_optimize.core.errors import Unreachable
from profile_and_optimize.engines.calls import Headers, Reply, caller
from profile_and_optimize.evals.pao_eval.ending import ended
from profile_and_optimize.evals.pao_eval.sampling import Pins, settle, wanted


@dataclass(frozen=True, slots=True)
class Answer:
    """The text of one completion and the usage the server gave (None where it gave none); `finish` is how it ended, "" where nobody
    told, `pins` what it was asked with beside temperature 0, None for a question that no comparison rests on."""

    text: str
    prompt_tokens: int | None
    completion_tokens: int | None
    finish: str = ""
    pins: Pins | None = None


def ask(
    url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16, headers: Headers = (), timeout_s: float = 120.0,
    pins: Pins | None = None,
) -> Answer:  # fmt: skip
    """One greedy completion. Raises Unreachable naming what came back instead."""
    path, body = _request(model, prompt, api, max_tokens)
    body |= pins.body() if pins is not None else {"temperature": 0.0}
    try:
        with caller(headers) as http:
            answer = http.call("POST", url + path, json=body, timeout_s=timeout_s)
    except Unreachable as e:
        raise Unreachable(f"POST {path}: {e.message}", where=url, next="check that the server runs") from e
    return replace(_read(answer, url, path, api, max_tokens), pins=pins)


def _request(model: str, prompt: str, api: str, max_tokens: int) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
    if api == "chat":
        return "/v1/chat/completions", body | {"messages": [{"role": "user", "content": prompt}]}
    return "/v1/completions", body | {"prompt": prompt}


def pins_of(url: str, model: str, *, api: str = "chat", headers: Headers = (), timeout_s: float = 120.0) -> Pins:
    """What this server takes of the pinned sampling at temperature 0. Raises Unreachable where it answers nothing at all."""
    path, body = _request(model, "What is 2 + 2?", api, 1)
    with caller(headers) as http:
        found = settle(
            lambda more: http.call("POST", url + path, json=body | more, timeout_s=timeout_s).status, wanted(0.0, 0)
        )
    if found is None:
        raise Unreachable(f"POST {path} answers nothing", where=url, next="check --model and --api")
    return found


def _read(answer: Reply, url: str, path: str, api: str, limit: int) -> Answer:
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
        tokens = _count(usage.get("completion_tokens"))
        return Answer(
            str(text), _count(usage.get("prompt_tokens")), tokens, ended(choice.get("finish_reason"), tokens, limit)
        )
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as e:
        raise Unreachable(
            f"POST {path} did not answer a completion", where=url, next="give the root of an OpenAI server"
        ) from e


def _count(value: object) -> int | None:
    """A server may call anything a count."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
