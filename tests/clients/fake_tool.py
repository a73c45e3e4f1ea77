"""Stands in for `vllm bench serve`, `aiperf profile` and `guidellm run`: takes their input, really sends it, and writes
their formats with the fields that are read. Installed under their names by `conftest.fake_env`; the file `behaviour`
beside it says how it goes wrong, and `seen.json` there keeps its arguments and environment for the test.
"""

import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

HERE = Path(sys.argv[0]).parent
BEHAVIOUR = (HERE / "behaviour").read_text() if (HERE / "behaviour").exists() else ""


def option(name):
    return sys.argv[sys.argv.index(name) + 1]


def main():
    (HERE / "seen.json").write_text(json.dumps({"argv": sys.argv, "env": dict(os.environ)}))
    tool = {"vllm": Vllm, "aiperf": Aiperf, "guidellm": Guidellm}[Path(sys.argv[0]).name]()
    if BEHAVIOUR == "crash":
        print(
            "Traceback (most recent call last):\n  File x, line 1\nValueError: the tokenizer cannot be read",
            file=sys.stderr,
        )
        sys.exit(3)
    if BEHAVIOUR == "boxed":
        print("\u256d\u2500 Error Running \u2500\u256e\n\u2502 no phases given \u2502\n\u2570\u2500\u2500\u256f")
        sys.exit(1)
    if BEHAVIOUR == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        (HERE / "grandchild").write_text(str(child.pid))
        time.sleep(600)
    seen = send_all(tool)
    if BEHAVIOUR == "half":
        seen = seen[: len(seen) // 2]
    if BEHAVIOUR == "stranger":
        seen[0]["prompt"] = "a prompt that nobody asked for"
    tool.write(seen)
    if BEHAVIOUR == "garbage":
        tool.result.write_bytes(b"\x00\xff{ not json")
    if BEHAVIOUR == "die":
        tool.result.unlink()
        os.kill(os.getpid(), 9)


def send_all(tool):
    """One dict per request in the order of the prompts; `tool.slots` at a time."""
    todo, seen, lock = list(enumerate(tool.prompts)), {}, threading.Lock()

    def slot():
        while True:
            with lock:
                if not todo:
                    return
                index, prompt = todo.pop(0)
            seen[index] = send(tool, index, prompt)

    slots = [threading.Thread(target=slot) for _ in range(tool.slots)]
    [thread.start() for thread in slots]
    [thread.join() for thread in slots]
    return [seen[i] for i in sorted(seen)]


def send(tool, index, prompt):
    url = urlsplit(tool.url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=30)
    body = {
        "model": tool.model,
        "max_tokens": tool.osl(index),
        "stream": True,
        "stream_options": {"include_usage": True},
        **tool.extra,
    }
    body |= {"messages": [{"role": "user", "content": tool.content(prompt)}]} if tool.chat else {"prompt": prompt}
    found = {
        "prompt": prompt,
        "due": time.time(),
        "start": time.time(),
        "start_perf": time.perf_counter(),
        "at": [],
        "usage": None,
        "error": "",
    }
    connection.request(
        "POST", "/v1/chat/completions" if tool.chat else "/v1/completions", json.dumps(body), tool.headers
    )
    answer = connection.getresponse()
    if answer.status != 200:
        answer.read()
        return found | {"error": f"HTTP {answer.status}", "end": time.time(), "body": body}
    for line in answer:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            found["at"] += [time.time()] if event["choices"] else []
            found["usage"] = event.get("usage") or found["usage"]
    return found | {"end": time.time(), "body": body}


class Vllm:
    def __init__(self):
        self.url, self.model, self.slots = option("--base-url"), option("--model"), int(option("--max-concurrency"))
        self.chat = option("--backend") == "openai-chat"
        text = Path(option("--dataset-path")).read_text()
        rows = [json.loads(line) for line in text.splitlines()] if self.chat else json.loads(text)
        self.prompts = [r["content"][0]["text"] if self.chat else r["conversations"][0]["value"] for r in rows]
        length = int(option("--custom-output-len" if self.chat else "--sharegpt-output-len"))
        self.osl, self.content = lambda index: length, lambda prompt: [{"type": "text", "text": prompt}]
        self.extra = {"ignore_eos": "--ignore-eos" in sys.argv, "temperature": float(option("--temperature"))}
        self.headers = headers(os.environ.get("OPENAI_API_KEY"))
        self.result = Path(option("--result-dir")) / option("--result-filename")

    def write(self, seen):
        ttfts = [s["at"][0] - s["start"] if s["at"] else 0.0 for s in seen]
        good = [s for s in seen if not s["error"]]
        duration = max(s["end"] for s in seen) - min(s["start"] for s in seen)
        t0 = min(s["start_perf"] for s in seen)
        self.result.write_text(
            json.dumps(
                {
                    "date": "20260101-000000",
                    "backend": "openai-chat",
                    "model_id": self.model,
                    "tokenizer_id": "t",
                    "num_prompts": len(seen),
                    "request_rate": "inf",
                    "max_concurrency": self.slots,
                    "duration": duration,
                    "completed": len(good),
                    "failed": len(seen) - len(good),
                    "total_input_tokens": 1,
                    "total_output_tokens": sum(s["usage"]["completion_tokens"] for s in good if s["usage"]),
                    "request_throughput": len(good) / duration,
                    "output_throughput": 1.0,
                    "input_lens": [5] * len(seen),
                    "output_lens": [s["usage"]["completion_tokens"] if s["usage"] else 5 for s in seen],
                    "ttfts": ttfts,
                    "itls": [[b - a for a, b in itertools.pairwise(s["at"])] for s in seen],
                    "latencies": [s["at"][-1] - s["start"] if s["at"] else 0.0 for s in seen],
                    "start_times": [s["start_perf"] for s in seen],
                    "queue_times": [s["start_perf"] - t0 for s in seen],
                    "errors": [s["error"] for s in seen],
                }
            )
        )


class Aiperf:
    def __init__(self):
        config = json.loads(Path(option("-f")).read_text())["benchmark"]
        endpoint, phase = config["endpoint"], config["phases"][0]
        self.url, self.model, self.slots, self.chat = (
            endpoint["url"],
            config["model"],
            phase["concurrency"],
            endpoint["type"] == "chat",
        )
        rows = [json.loads(line) for line in Path(config["dataset"]["path"]).read_text().splitlines()]
        assert len(rows) == phase["requests"] and config["dataset"]["sampling"] == "sequential"
        self.prompts, self.content = [row["text"] for row in rows], lambda prompt: prompt
        self.osl, self.extra = lambda index: rows[index]["output_length"], endpoint["extra"]
        key = endpoint.get("apiKey", "")
        self.headers = headers(os.environ.get(key[2:-1]) if key.startswith("${") else key)
        self.folder = Path(config["artifacts"]["dir"])
        self.result = self.folder / "profile_export_aiperf.json"

    def write(self, seen):
        self.folder.mkdir(parents=True)
        sessions = [str(uuid.uuid4()) for _ in seen]
        inputs = [{"session_id": i, "payloads": [payload(s)]} for i, s in zip(sessions, seen, strict=True)]
        (self.folder / "inputs.json").write_text(json.dumps({"data": inputs}))
        ended = sorted(zip(sessions, seen, strict=True), key=lambda pair: pair[1]["end"])
        (self.folder / "profile_export.jsonl").write_text("".join(json.dumps(self.line(i, s)) + "\n" for i, s in ended))
        good = [s for s in seen if not s["error"]]
        duration = max(s["end"] for s in seen) - min(s["start"] for s in seen)
        self.result.write_text(
            json.dumps(
                {
                    "aiperf_version": "0.13.0",
                    "input_config": {},
                    "request_count": {"unit": "requests", "avg": len(good)},
                    "benchmark_duration": {"unit": "sec", "avg": duration},
                }
            )
        )

    def line(self, session, s):
        meta = {
            "conversation_id": session,
            "credit_issued_ns": ns(s["due"]),
            "request_start_ns": ns(s["start"]),
            "request_end_ns": ns(s["end"]),
            "benchmark_phase": "profiling",
            "turn_index": 0,
        }
        if s["error"]:
            return {"metadata": meta, "metrics": {}, "error": {"message": s["error"]}}
        gaps = [(b - a) * 1e3 for a, b in itertools.pairwise(s["at"])]
        tokens = (
            {f"usage_{k}": {"value": s["usage"][k], "unit": "tokens"} for k in ("prompt_tokens", "completion_tokens")}
            if s["usage"]
            else {}
        )
        return {
            "metadata": meta,
            "metrics": {
                "time_to_first_token": ms((s["at"][0] - s["start"]) * 1e3),
                "inter_chunk_latency": ms(gaps),
                "request_latency": ms((s["at"][-1] - s["start"]) * 1e3),
                **tokens,
            },
        }


def payload(s):
    """With the prompt as the tool itself took it, wherever the test made it another."""
    body = dict(s["body"])
    if "messages" in body:
        return body | {"messages": [{"role": "user", "content": s["prompt"]}]}
    return body | {"prompt": s["prompt"]}


class Guidellm:
    def __init__(self):
        spec = json.loads(Path(option("-c")).read_text())["spec"]
        backend = spec["backend"]
        self.url, self.model, self.slots = backend["target"], backend["model"], spec["profile"]["streams"][0]
        self.chat = backend["request_format"] == "/v1/chat/completions"
        rows = [json.loads(line) for line in Path(spec["data"][0]["path"]).read_text().splitlines()]
        self.prompts = [row["prompt"] for row in rows]
        self.osl = lambda index: rows[index].get("output_tokens_count") or backend["max_tokens"]
        self.content = lambda prompt: [{"type": "text", "text": prompt}]
        self.extra = backend["extras"]["body"] | {"ignore_eos": True}
        self.headers = headers(os.environ.get("GUIDELLM__SPEC__BACKEND__API_KEY"))
        self.result = Path(spec["outputs"][0]["path"])

    def write(self, seen):
        groups = {"successful": [], "errored": [], "incomplete": []}
        for s in sorted(seen, key=lambda s: s["end"]):
            groups["errored" if s["error"] else "successful"].append(self.entry(s))
        begin, end = min(s["start"] for s in seen), max(s["end"] for s in seen)
        self.result.write_text(
            json.dumps(
                {
                    "metadata": {},
                    "config": {},
                    "benchmarks": [
                        {
                            "config": {"strategy": {"type_": "concurrent", "streams": self.slots}},
                            "metrics": {},
                            "requests": groups,
                            "start_time": begin,
                            "end_time": end,
                            "duration": end - begin,
                        }
                    ],
                }
            )
        )

    def entry(self, s):
        body = dict(s["body"])
        if "messages" in body:
            body["messages"] = [{"role": "user", "content": [{"type": "text", "text": s["prompt"]}]}]
        else:
            body["prompt"] = s["prompt"]
        timings = {
            "targeted_start": s["due"],
            "request_start": s["start"],
            "request_end": s["end"],
            "token_iterations": len(s["at"]),
        }
        if s["at"]:
            timings |= {"first_token_iteration": s["at"][0], "last_token_iteration": s["at"][-1]}
        return {
            "request_args": None if s["error"] else json.dumps({"body": body}),
            "info": {"error": s["error"] or None, "timings": timings},
            "output_tokens": s["usage"]["completion_tokens"] if s["usage"] else None,
            "request_latency": s["end"] - s["start"],
        }


def ns(at):
    return round(at * 1e9)


def ms(value):
    return {"value": value, "unit": "ms"}


def headers(key):
    return {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})


main()
