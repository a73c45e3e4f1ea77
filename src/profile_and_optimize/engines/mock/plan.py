"""From a request's JSON to what will be sent and when: frames of bytes and their offsets, ready before the first one."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import orjson

from profile_and_optimize.engines.mock.http import LAST_CHUNK, STREAM_HEAD, chunk, response
from profile_and_optimize.engines.mock.options import Options

WORD = " tok"
TAG_LENGTH = 40
CHAT_TEMPLATE_TOKENS = 4  # what a small chat template adds to the words of the messages


class Refused(Exception):
    """The request is answered with this HTTP status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ask:
    """What one request asks for. `words` are the answer's tokens, each with its leading space.

    `tag` is the prompt's first word: whoever numbers its prompts finds its requests again in the stamps. No two
    requests share it, so it takes no part in comparisons, for the caches of frames go by equal asks.
    """

    chat: bool
    stream: bool
    usage: bool
    prompt_tokens: int
    words: tuple[str, ...]
    finish: str
    tag: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """Frame k is due `offsets_ns[k]` after the start. `tokens[k]` output tokens are in it; 0: no content."""

    frames: tuple[bytes, ...]
    offsets_ns: tuple[int, ...]
    tokens: tuple[int, ...]


def read_answers(path: Path | None) -> dict[str, str]:
    """Question -> answer from a JSON-lines file."""
    if path is None:
        return {}
    rows = (orjson.loads(line) for line in path.read_bytes().splitlines() if line.strip())
    return {str(row["question"]).strip(): str(row["answer"]) for row in rows}


def read_ask(body: bytes, *, chat: bool, options: Options, answers: Mapping[str, str]) -> Ask:
    """Raises Refused for what an engine would refuse too: not JSON, another model, no prompt, a bad max_tokens."""
    asked = _object(body)
    model = asked.get("model", options.model)
    if model != options.model:
        raise Refused(404, f"The model `{model}` does not exist.")
    prompt, question = _chat_prompt(asked) if chat else (_text(asked.get("prompt")), "")
    words, finish = _answer(asked, question, options, answers)
    stream_options = asked.get("stream_options")
    return Ask(
        chat=chat, stream=asked.get("stream") is True,
        usage=isinstance(stream_options, dict) and stream_options.get("include_usage") is True and not options.no_usage,
        prompt_tokens=len(prompt.split()) + (CHAT_TEMPLATE_TOKENS if chat else 0), words=words, finish=finish,
        tag=(question or prompt).lstrip()[:TAG_LENGTH].partition(" ")[0],
    )  # fmt: skip


def _object(body: bytes) -> dict[str, object]:
    try:
        asked = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise Refused(400, "the body must be a JSON object")
    return asked


def _chat_prompt(asked: dict[str, object]) -> tuple[str, str]:
    """All message text, and the last user message."""
    messages = asked.get("messages")
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise Refused(400, "messages must be a list of objects")
    texts = [_text(m.get("content")) for m in messages]
    users = [text for m, text in zip(messages, texts, strict=True) if m.get("role") == "user"]
    return " ".join(texts), users[-1].strip() if users else ""


def _text(content: object) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = [p.get("text", "") if isinstance(p, dict) else p for p in content]
        return " ".join(p for p in parts if isinstance(p, str))
    raise Refused(400, "the prompt must be text")


def _answer(
    asked: dict[str, object], question: str, options: Options, answers: Mapping[str, str]
) -> tuple[tuple[str, ...], str]:
    limit = asked.get("max_tokens", asked.get("max_completion_tokens"))
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        raise Refused(400, "max_tokens must be a positive integer")
    known = answers.get(question)
    if known is None:
        return (WORD,) * (limit or options.osl), "length"
    words = tuple(w if i == 0 else " " + w for i, w in enumerate(known.split()))
    return (words[:limit], "length") if limit and limit < len(words) else (words, "stop")


def make_plan(ask: Ask, options: Options, factor: float, rng: random.Random) -> Plan:
    """The frames of the answer; `factor` stretches every time of this request."""
    ttft, itl = options.ttft_ms * 1e6 * factor, options.itl_ms * 1e6 * factor
    if not ask.stream:
        body = response(200, rng.randbytes(200)) if options.garbage else _whole_answer(ask, options)
        return Plan((body,), (round(ttft + (len(ask.words) - 1) * itl),), (len(ask.words),))
    ends = _chunk_ends(len(ask.words), options.tokens_per_chunk)
    frames = _garbage(ends, rng) if options.garbage else _frames(ask, ends, options)
    at_once = options.role_chunk == "zero" and not options.garbage
    whole = Plan(frames, _offsets(ends, ttft, itl, at_once), _tokens(ends, at_once))
    if options.one_packet:
        return Plan((b"".join(frames),), whole.offsets_ns[-1:], (len(ask.words),))
    return whole


# The caches below keep the cost of a request small and even: 256 may come in the same millisecond.


@lru_cache(maxsize=256)
def _offsets(ends: tuple[int, ...], ttft: float, itl: float, at_once: bool) -> tuple[int, ...]:
    return ((0,) if at_once else ()) + tuple(round(ttft + i * itl) for i in range(len(ends)))


@lru_cache(maxsize=256)
def _tokens(ends: tuple[int, ...], at_once: bool) -> tuple[int, ...]:
    return ((0,) if at_once else ()) + tuple(b - a for a, b in zip((0, *ends), ends, strict=False))


@lru_cache(maxsize=256)
def _chunk_ends(tokens: int, per_chunk: int) -> tuple[int, ...]:
    """How many tokens are out after each chunk, `per_chunk` at a time; chunks are one itl apart.

    So 64 tokens at 4 a chunk and 10 ms are 16 chunks over 150 ms: ITL 10 ms, TPOT 150/63 = 2.38 ms.
    """
    return (*range(per_chunk, tokens, per_chunk), tokens)


@lru_cache(maxsize=256)
def _frames(ask: Ask, ends: tuple[int, ...], options: Options) -> tuple[bytes, ...]:
    """HTTP chunks; the first carries the response head, the last the finish reason, usage and the end."""
    role = chunk(_event(ask, options.model, role=True)) if ask.chat and options.role_chunk != "none" else b""
    contents = _contents(ask, ends, options.model)
    tail = _tail(ask, options.model)
    if options.role_chunk == "zero":
        return _framed([role, *contents], tail)
    return _framed([role + contents[0], *contents[1:]], tail)


def _framed(bodies: Sequence[bytes], tail: bytes) -> tuple[bytes, ...]:
    """The response head goes out with the first frame, the end with the last."""
    frames = list(bodies)
    frames[0] = STREAM_HEAD + frames[0]
    frames[-1] += tail
    return tuple(frames)


@lru_cache(maxsize=64)
def _uniform_contents(ask: Ask, ends: tuple[int, ...], model: str) -> tuple[bytes, ...]:
    """The same words in every answer: serialised once for all requests of one length."""
    return _serialise(ask, ends, model)


def _contents(ask: Ask, ends: tuple[int, ...], model: str) -> tuple[bytes, ...]:
    if ask.words[0] == WORD:
        # The key leaves out what differs between requests and does not show in content events.
        return _uniform_contents(Ask(ask.chat, True, False, 0, ask.words, ask.finish), ends, model)
    return _serialise(ask, ends, model)


def _serialise(ask: Ask, ends: tuple[int, ...], model: str) -> tuple[bytes, ...]:
    spans = zip((0, *ends), ends, strict=False)
    return tuple(
        chunk(_event(ask, model, text="".join(ask.words[a:b]), finish=ask.finish if b == ends[-1] else None))
        for a, b in spans
    )


def _event(ask: Ask, model: str, *, text: str = "", role: bool = False, finish: str | None = None) -> bytes:
    choice: dict[str, object] = {"index": 0, "logprobs": None, "finish_reason": finish}
    if ask.chat:
        choice["delta"] = {"role": "assistant", "content": ""} if role else {"content": text}
    else:
        choice["text"] = text
    return b"data: " + orjson.dumps(_envelope(ask, model, [choice])) + b"\n\n"


def _envelope(ask: Ask, model: str, choices: list[dict[str, object]]) -> dict[str, object]:
    kind = ("chat.completion" if ask.chat else "text_completion") + (".chunk" if ask.chat and ask.stream else "")
    # A constant id and time: two answers to the same request are the same bytes.
    return {"id": "mock-0", "object": kind, "created": 0, "model": model, "choices": choices}


def _tail(ask: Ask, model: str) -> bytes:
    usage = b""
    if ask.usage:
        usage = chunk(b"data: " + orjson.dumps({**_envelope(ask, model, []), "usage": _usage(ask)}) + b"\n\n")
    return usage + chunk(b"data: [DONE]\n\n") + LAST_CHUNK


def _usage(ask: Ask) -> dict[str, int]:
    n = len(ask.words)
    return {"prompt_tokens": ask.prompt_tokens, "completion_tokens": n, "total_tokens": ask.prompt_tokens + n}


def _whole_answer(ask: Ask, options: Options) -> bytes:
    text = "".join(ask.words)
    choice: dict[str, object] = {"index": 0, "finish_reason": ask.finish}
    choice |= {"message": {"role": "assistant", "content": text}} if ask.chat else {"text": text}
    answer = _envelope(ask, options.model, [choice])
    if not options.no_usage:
        answer["usage"] = _usage(ask)
    return response(200, orjson.dumps(answer))


def _garbage(ends: tuple[int, ...], rng: random.Random) -> tuple[bytes, ...]:
    """Correct HTTP framing around random bytes: what a broken proxy or a wrong port may send."""
    bodies = [chunk(rng.randbytes(rng.randint(1, 300))) for _ in ends]
    return _framed(bodies, LAST_CHUNK)
