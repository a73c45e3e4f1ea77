"""How each tool spells what a fix asks of it."""

from __future__ import annotations

from profile_and_optimize.importers.base import Imported, LoadKind

REQUESTS = {
    "vllm": "vllm bench serve --num-prompts {n} --max-concurrency {c}",
    "sglang": "python -m sglang.benchmark.serving --num-prompts {n} --max-concurrency {c}",
    "aiperf": "aiperf profile --request-count {n} --concurrency {c}",
    "genai-perf": "genai-perf profile --concurrency {c} --request-count {n}",
    "guidellm": "guidellm run --profile kind=concurrent,streams={c} --constraint kind=max_requests,count={n}",
    "pao": "pao bench URL --requests {n} --concurrency {c}",
}
DETAIL = {
    "vllm": "vllm bench serve --save-detailed",
    "sglang": "python -m sglang.benchmark.serving --output-details",
    "aiperf": "keep the whole artifact folder: aiperf profile --export-level records",
    "guidellm": "guidellm has no option that writes it",
    "genai-perf": "genai-perf has no option that writes it",
    "pao": "pao bench URL --out FOLDER",
}
SEED = {
    "vllm": "vllm bench serve --seed with another number for each run",
    "sglang": "python -m sglang.benchmark.serving --seed with another number for each run, or --flush-cache",
    "aiperf": "aiperf profile --random-seed with another number for each run, --num-dataset-entries at least --request-count",
    "genai-perf": "genai-perf profile --random-seed with another number for each run",
    "guidellm": "guidellm run --seed kind=static,value=N with another N for each run",
    "pao": "pao bench URL (it draws a new seed for each run)",
}


def requests(run: Imported, n: int) -> str:
    """The tool's own command for a closed loop; another load keeps its own options."""
    if run.load not in (LoadKind.CLOSED, LoadKind.UNKNOWN):
        return f"the same load of {run.tool} with {n} requests"
    return REQUESTS[run.tool].format(n=n, c=run.concurrency or "C")


def detail(run: Imported) -> str:
    """How to have the tool write what it knows of each request; of a list that is not the whole run, what it is instead."""
    return f"it does not have {run.unlisted}" if run.unlisted else DETAIL[run.tool]


def seed(run: Imported) -> str:
    return SEED[run.tool]


def calibrate(run: Imported) -> str:
    """How to measure the error of this very client on its machine; of one we cannot run, our own bench instead."""
    client = {"vllm": "vllm-bench", "aiperf": "aiperf", "guidellm": "guidellm", "pao": "stream"}.get(run.tool)
    if client is None:
        return f"{own_bench(run)} shows whether our client is in time at this load"
    load = f" --concurrency {run.concurrency}" if run.concurrency and run.load is LoadKind.CLOSED else ""
    return f"pao calibrate --client {client}{load} measures this client's error on its machine; or {own_bench(run)}"


def own_bench(run: Imported) -> str:
    """The same load with our client, with the lengths where the file names them."""
    lengths = "".join(
        f" --{k} {float(v):g}"
        for k in ("isl", "osl")
        if (v := run.facts.get(f"{k}_asked", "")).replace(".", "").isdigit()
    )
    load = f" --concurrency {run.concurrency}" if run.concurrency and run.load is LoadKind.CLOSED else ""
    if run.load is LoadKind.OPEN and run.request_rate:
        load = f" --request-rate {run.request_rate:g}"
    return f"pao bench URL{lengths}{load}" + (f" --requests {run.asked}" if run.asked else "")
