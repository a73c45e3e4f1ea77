"""Stands in for `vllm serve`, `vllm bench serve` and `vllm bench sweep serve`: really starts a server (our mock), really
sends to it, and writes the files the real ones write, with the fields that are read. `behaviour` beside it says how it goes
wrong: "die:KEY" fails one load, "half:KEY" completes half of its requests, "hang:KEY" never ends it, "nopandas" ends as a
sweep without pandas does.
"""

import concurrent.futures
import http.client
import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(sys.argv[0]).parent
BEHAVIOUR = (HERE / "behaviour").read_text() if (HERE / "behaviour").exists() else ""
KIND, _, AT = BEHAVIOUR.partition(":")


def option(name, argv=None):
    argv = sys.argv if argv is None else argv
    return argv[argv.index(name) + 1]


def main():
    with (HERE / "seen.jsonl").open("a") as f:
        f.write(json.dumps({"argv": sys.argv, "env": dict(os.environ)}) + "\n")
    verb = sys.argv[1:4]
    if verb[0] == "serve":
        serve()
    elif verb[1] == "serve":
        bench()
    else:
        sweep()


def serve():
    argv = [
        "-m",
        "profile_and_optimize.engines.mock.server",
        "--port",
        option("--port"),
        "--model",
        option("--served-model-name"),
        "--ttft-ms",
        "5",
        "--itl-ms",
        "1",
    ]
    print("INFO dtype=torch.bfloat16, max_seq_len=2048, enable_prefix_caching=True", flush=True)
    os.execv(sys.executable, [sys.executable, *argv])


def bench():
    folder, name = Path(option("--result-dir")), option("--result-filename")
    key = folder.name.rpartition("BENCH--")[2]
    if key == AT and KIND == "hang":
        (HERE / "hanging").write_text(str(os.getpid()))
        time.sleep(600)
    if key == AT and KIND == "die":
        print("ValueError: this load cannot be made", file=sys.stderr)
        sys.exit(1)
    n, slots = int(option("--num-prompts")), int(option("--max-concurrency"))
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(slots) as pool:
        sent = list(pool.map(lambda i: send(i, option("--seed")), range(n)))
    if key == AT and KIND == "half":
        sent = [s if i % 2 else s | {"error": "HTTP 500"} for i, s in enumerate(sent)]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(result(sent, n, slots, time.perf_counter() - began)))


def send(i, seed):
    url = urlsplit(option("--base-url"))
    osl = int(option("--random-output-len"))
    body = {
        "model": option("--model"),
        "messages": [{"role": "user", "content": f"{seed} {i} " + "w " * 8}],
        "max_tokens": osl,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    key = os.environ.get("OPENAI_API_KEY")
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    c, start, at = http.client.HTTPConnection(url.hostname, url.port, timeout=30), time.perf_counter(), []
    c.request("POST", option("--endpoint"), json.dumps(body), headers)
    for line in c.getresponse():
        if line.startswith(b"data: {") and json.loads(line[6:])["choices"]:
            at.append(time.perf_counter())
    return {"start": start, "at": at, "error": "" if at else "no chunk"}


def result(sent, n, slots, duration):
    good = [s for s in sent if not s["error"]]
    ttfts = [s["at"][0] - s["start"] if s["at"] else 0.0 for s in sent]
    return {
        "date": "20260101-000000", "backend": option("--backend"), "model_id": option("--model"), "num_prompts": n,
        "request_rate": "inf", "max_concurrency": slots, "duration": duration, "completed": len(good), "failed": n - len(good),
        "total_input_tokens": 8 * n, "total_output_tokens": sum(len(s["at"]) for s in good),
        "request_throughput": len(good) / duration, "output_throughput": sum(len(s["at"]) for s in good) / duration,
        "median_ttft_ms": sorted(ttfts)[n // 2] * 1e3, "p90_ttft_ms": max(ttfts) * 1e3, "p99_ttft_ms": max(ttfts) * 1e3,
        "mean_ttft_ms": sum(ttfts) / n * 1e3,
        "median_tpot_ms": 1.0, "p90_tpot_ms": 1.0, "p99_tpot_ms": 1.0, "mean_tpot_ms": 1.0,
        "errors": [s["error"] for s in sent], "ttfts": ttfts, "itls": [[0.001] * max(0, len(s["at"]) - 1) for s in sent],
        "input_lens": [8] * n, "output_lens": [len(s["at"]) for s in sent],
    }  # fmt: skip


def sweep():
    out = Path(option("-o")) / option("-e")
    server = subprocess.Popen(shlex.split(option("--serve-cmd")), start_new_session=True)
    wait(option("--port", shlex.split(option("--serve-cmd"))))
    cell = json.loads(Path(option("--serve-params")).read_text())[0]["_benchmark_name"]
    for load in json.loads(Path(option("--bench-params")).read_text()):
        one(out, cell, load)
    server.kill()
    if KIND == "nopandas":
        print("ImportError: Please install vllm[bench] for pandas support", file=sys.stderr)
        sys.exit(1)
    (out / "summary.csv").write_text("x\n")


def one(out, cell, load):
    """One combination: a warm-up, the runs, the summary; a run that dies leaves its failure."""
    place = out / f"SERVE--{cell}-BENCH--{load['_benchmark_name']}"
    runs = []
    for k in range(int(option("--num-runs"))):
        argv = [*shlex.split(option("--bench-cmd")), "--result-dir", str(place), "--result-filename", f"run={k}.json"]
        for name, value in load.items():
            argv += [] if name == "_benchmark_name" else ["--" + name.replace("_", "-"), str(value)]
        if subprocess.run(argv).returncode:
            place.mkdir(parents=True, exist_ok=True)
            (place / f"run={k}.failure.json").write_text(
                json.dumps({"error_type": "CalledProcessError", "error": "exit 1"})
            )
            continue
        runs.append(json.loads((place / f"run={k}.json").read_text()) | load | {"run_number": k})
        (place / f"run={k}.json").write_text(json.dumps(runs[-1]))
    if runs:
        (place / "summary.json").write_text(json.dumps(runs))


def wait(port):
    for _ in range(200):
        try:
            c = http.client.HTTPConnection("127.0.0.1", int(port), timeout=2)
            c.request("GET", "/health")
            if c.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    sys.exit("the server did not come up")


main()
