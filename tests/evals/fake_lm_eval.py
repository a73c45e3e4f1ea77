"""Stands in for the Python of the `eval` environment: asks the questions of a job for real, scores plain equality, and
writes what our worker writes. The file `behaviour` beside it says how it goes wrong, `seen.json` keeps its environment.
"""

import hashlib
import json
import os
import sys
import time
import urllib.request
from pathlib import Path

HERE = Path(sys.argv[0]).parent


def main():
    if "-c" in sys.argv:
        print(json.dumps([["python", "3.11"], ["lm_eval", "0.4.13"]]))
        return 0
    behaviour = (HERE / "behaviour").read_text() if (HERE / "behaviour").exists() else ""
    job = json.loads(Path(sys.argv[-1]).read_text())
    (HERE / "seen.json").write_text(json.dumps({"argv": sys.argv, "env": dict(os.environ), "job": job}))
    print("PAO " + json.dumps({"stage": "all", "says": "reading"}), flush=True)
    if behaviour == "hang":
        time.sleep(600)
    if behaviour == "crash":
        print("ModuleNotFoundError: No module named 'datasets'", file=sys.stderr)
        return 1
    (Path(job["out"]) / "asked.json").write_text(json.dumps(pins(job)))
    for number, entry in enumerate(job["tasks"]):
        if behaviour == "die" and number:
            print("MemoryError: no memory left", file=sys.stderr)
            return 1
        told = asked(job, entry) if entry["rows"] else unreachable(entry)
        (Path(job["out"]) / f"{number}.json").write_text(json.dumps({"name": entry["name"], **told}))
    return 0


def pins(job):
    plain = {
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
    }
    return {"sent": {"temperature": job["temperature"], **plain, "seed": job["seed"]}, "refused": [], "ignored": []}


def unreachable(entry):
    failed = {"code": "data", "message": "its data cannot be reached from here", "next": f"--data {entry['name']}=FILE"}
    return {"failed": failed}


def asked(job, entry):
    rows = []
    for row in entry["rows"][: job["limit"]]:
        text = entry["format"].replace("{question}", row["question"])
        said, finish = zip(*(ask(job, text) for _ in range(job["samples"])), strict=True)
        number = hashlib.sha256((row["question"] + "\0" + row["answer"]).encode()).hexdigest()[:16]
        scores = [float(s.strip() == row["answer"].strip()) for s in said]
        rows.append(
            {
                "id": number,
                "scores": scores,
                "expected": row["answer"],
                "said": said,
                "finish": finish,
                "asked": text,
                "answers": said,
                "question": row["question"],
                "cluster": row["cluster"],
            }
        )
    name = entry["name"]
    about = {"metric": "exact_match", "kind": "generate_until", "fewshot": 0, "version": "1", "of": len(entry["rows"])}
    return {"tasks": [{"task": name, "rows": rows, **about}]}


def ask(job, text):
    chat = job["api"] == "chat"
    body = {"messages": [{"role": "user", "content": text}]} if chat else {"prompt": text}
    path = "/v1/chat/completions" if chat else "/v1/completions"
    data = json.dumps({"model": job["model"], "max_tokens": 8, **body}).encode()
    request = urllib.request.Request(job["url"] + path, data, {"content-type": "application/json"})
    choice = json.loads(urllib.request.urlopen(request, timeout=20).read())["choices"][0]
    return (choice["message"]["content"] if chat else choice["text"]), choice["finish_reason"]


sys.exit(main())
