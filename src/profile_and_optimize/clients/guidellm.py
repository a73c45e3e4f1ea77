"""`guidellm run` as a client.

It tells the first and the last token's time of a request and nothing between, so gaps and tokens per chunk stay
unknown. It asks the server for usage with every chunk, which costs the server something. A request is intended when
its slot wanted it (`targeted_start`). Times are on the wall clock.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import (
    GRACE_S,
    PromptIndex,
    Told,
    bearer,
    counted_by_server,
    drive,
    environment,
    stand_in_tokenizer,
    whole_order,
)  # fmt: skip
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.engines.base import Command
from profile_and_optimize.importers import guidellm
from profile_and_optimize.importers.reading import Looked, digest_of_text, read_values, short_error
from profile_and_optimize.toolenv.find import ToolEnv

RESULT = "result.json"
GROUPS = ("successful", "errored", "incomplete")
SENT, DONE = (
    ("request_start", "resolve_start", "scheduled_at", "targeted_start"),
    ("request_end", "resolve_end", "finalized"),
)


class GuidellmClient:
    """See `Client`. `grace_s` is what it may take beyond the requests' own timeouts."""

    name = "guidellm"
    tool = "guidellm"

    def __init__(self, env: ToolEnv, grace_s: float = GRACE_S) -> None:
        self.env, self.grace_s = env, grace_s
        self.version = env.version("guidellm") or "unknown"

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        return drive(self, load, workdir, grace_s=self.grace_s)

    def command(self, load: LoadRequest, workdir: Path) -> Command:
        if not load.ignore_eos and load.osls:
            raise WrongUse("guidellm takes one osl per prompt only with ignore_eos", next="leave out --client")
        prompts, config = workdir / "prompts.jsonl", workdir / "config.json"
        prompts.write_text("".join(json.dumps(_row(load, i)) + "\n" for i in range(len(load.prompts))))
        tokenizer = stand_in_tokenizer(workdir / "tokenizer")
        config.write_text(json.dumps({"spec": _spec(load, prompts, tokenizer, workdir / RESULT)}))
        argv = (str(self.env.bin_dir / "guidellm"), "run", "-c", str(config), "--disable-console")
        # Its settings read this variable into the backend's arguments.
        return Command(argv, environment(workdir, {"GUIDELLM__SPEC__BACKEND__API_KEY": bearer(load)}))

    def told(self, load: LoadRequest, workdir: Path) -> Told:
        data = read_values(workdir / RESULT)[0]
        found = guidellm.of(data, RESULT)[0]
        requests = [_Request(r, group) for group in GROUPS for r in data["benchmarks"][0]["requests"].get(group) or []]
        where = PromptIndex(load.prompts)
        taken = [where.take(r.prompt) for r in requests]
        order = whole_order(taken, len(load.prompts), name="guidellm", failed=[r.error is not None for r in requests])
        t0 = min(r.intended for r in requests)
        records = tuple(r.record(at, t0, load) for r, at in zip(requests, order, strict=True))
        return Told(records, t0, found.duration_s or max(r.done for r in requests) - t0, chunks_known=False)


def _row(load: LoadRequest, index: int) -> dict[str, Any]:
    """With a count of output tokens in the row it asks for exactly these and sends ignore_eos."""
    return {"prompt": load.prompts[index]} | (
        {"output_tokens_count": load.max_tokens(index)} if load.ignore_eos else {}
    )


def _spec(load: LoadRequest, prompts: Path, tokenizer: Path, result: Path) -> dict[str, Any]:
    backend = {
        "kind": "openai_http", "target": load.url, "model": load.model, "timeout": load.timeout_s, "http2": False, "verify": True,
        "request_format": "/v1/chat/completions" if load.api == "chat" else "/v1/completions", "follow_redirects": False,
        "validate_backend": False,
        "extras": {"body": {"temperature": load.temperature}}, **({} if load.ignore_eos else {"max_tokens": load.osl}),
    }  # fmt: skip
    return {
        "backend": backend, "profile": {"kind": "concurrent", "streams": [load.concurrency]},
        "constraints": [{"kind": "max_requests", "count": len(load.prompts)}],
        "tokenizer": {"kind": "hf_auto", "model": str(tokenizer)}, "data": [{"kind": "json_file", "path": str(prompts)}],
        "data_loader": {"kind": "pytorch", "shuffle": False}, "outputs": [{"kind": "json", "path": str(result)}],
    }  # fmt: skip


class _Request:
    """One entry of its report. Times in seconds on the wall clock."""

    def __init__(self, data: Any, group: str) -> None:
        entry = Looked(data, f"requests.{group}")
        self._times = entry.inside("info", "timings")
        self._tokens = entry.whole("output_tokens")
        self.error = None if group == "successful" else short_error(entry.inside("info").text("error") or group)
        self.prompt = _prompt_of(entry.data.get("request_args"))
        sent, done = self._first_of(SENT), self._first_of(DONE)
        self.sent = sent
        self.intended = min(self._times.number("targeted_start") or sent, sent)
        self.done = max(done, sent)

    def _first_of(self, names: tuple[str, ...]) -> float:
        found = [v for name in names if (v := self._times.number(name)) is not None]
        if not found:
            raise ValueError(f"a request without {names[0]}")
        return found[0]

    def record(self, index: int, t0: float, load: LoadRequest) -> RequestRecord:
        ends = [self._times.number(name) for name in ("first_token_iteration", "last_token_iteration")]
        several = (self._times.whole("token_iterations") or 0) > 1
        chunks = [at for at in ends[: 2 if several else 1] if at is not None]
        ns = [round((at - t0) * 1e9) for at in (self.intended, self.sent, self.done, *chunks)]
        return RequestRecord(
            index=index, intended_ns=ns[0], sent_ns=ns[1], done_ns=max(ns[1:]), chunk_ns=tuple(ns[3:]),
            completion_tokens=counted_by_server(load, index, self._tokens), error=self.error,
        )  # fmt: skip


def _prompt_of(request_args: Any) -> str | None:
    try:
        body = json.loads(request_args)["body"]
        prompt = body.get("messages", body.get("prompt"))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if prompt is None else digest_of_text(prompt)
