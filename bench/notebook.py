"""docs/python.ipynb: the cells below, executed here and now against two mock servers, with their outputs.

    python bench/notebook.py        # writes docs/python.ipynb; about two minutes

It runs in a temporary folder, so that no path of a machine is in an output, and needs no Jupyter.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import io
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[1] / "docs/python.ipynb"
A, B = 8101, 8102
BOOK = """
# Two servers, one answer

Two servers run on ports 8101 and 8102, here two mocks that differ by half a millisecond a token. `pao.ab` compares them in interleaved
blocks; see [python.md](python.md) for every function.
---
import profile_and_optimize as pao

found = pao.bench("http://127.0.0.1:8101", isl=64, osl=32, concurrency=8, requests=48)
found
---
found.output_throughput_tok_s, found.ttft_ms.p50, found.client
---
run = pao.ab("http://127.0.0.1:8101", "http://127.0.0.1:8102", requests=48, blocks=3, budget_minutes=2)
run
---
## What it rests on

The run is a folder; `pao.load` reads it at any later time and checks it first. Everything below is derived from the records.
---
run = pao.load("ab")
run.verdict.answer
---
for gate in run.verdict.not_passed:
    print("failed" if gate.passed is False else "not evaluated", "-", gate.name)
---
for e in run.effects():
    print(f"{e.variant:8} {e.call or '':8}", "" if e.estimate is None else f"{e.estimate:+.1%} ({e.lower:+.1%} to {e.upper:+.1%})")
---
requests = run.requests()
requests[requests.counts].groupby("variant")[["ttft_ms", "tpot_ms", "e2e_latency_ms"]].median().round(2)
---
## Errors say what is wrong and what to do
---
try:
    pao.bench("http://127.0.0.1:8101", concurency=8)
except pao.PaoError as e:
    print(e)
"""


def cells() -> Iterator[tuple[str, str]]:
    """(markdown or code, text)."""
    for part in BOOK.strip("\n").split("\n---\n"):
        yield ("markdown" if part.startswith("#") else "code"), part


def execute(parts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """The cells as a notebook of format 4, each executed after the others in one namespace. An error in a cell is raised."""
    names: dict[str, Any] = {"__name__": "__main__"}
    made: list[dict[str, Any]] = []
    count = 0
    for kind, text in parts:
        cell: dict[str, Any] = {
            "cell_type": kind,
            "id": hashlib.sha256(text.encode()).hexdigest()[:8],
            "metadata": {},
            "source": _lines(text),
        }
        if kind == "code":
            count += 1
            cell |= {"execution_count": count, "outputs": _outputs(text, names, count)}
        made.append(cell)
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def _outputs(text: str, names: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """What it prints, and the value of a last line that is an expression."""
    body = ast.parse(text).body
    last = ast.Expression(body.pop().value) if isinstance(body[-1], ast.Expr) else None  # type: ignore[attr-defined]
    out, value = io.StringIO(), None
    with contextlib.redirect_stdout(out):
        exec(compile(ast.Module(body, []), "<cell>", "exec"), names)
        if last is not None:
            value = eval(compile(last, "<cell>", "eval"), names)
    printed = [{"name": "stdout", "output_type": "stream", "text": _lines(out.getvalue())}] if out.getvalue() else []
    if value is None:
        return printed
    data = {"text/plain": _lines(repr(value))}
    if hasattr(value, "_repr_html_"):
        data["text/html"] = _lines(value._repr_html_())
    return [*printed, {"data": data, "execution_count": count, "metadata": {}, "output_type": "execute_result"}]


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@contextlib.contextmanager
def mocks() -> Iterator[None]:
    command = [sys.executable, "-m", "profile_and_optimize.engines.mock.server", "--ttft-ms", "20", "--osl", "32"]
    made = [subprocess.Popen([*command, "--port", str(p), "--itl-ms", gap]) for p, gap in ((A, "5"), (B, "4.5"))]
    try:
        for port in (A, B):
            _wait(f"http://127.0.0.1:{port}/v1/models")
        yield
    finally:
        for server in made:
            server.terminate()
            server.wait()


def _wait(url: str) -> None:
    for _ in range(100):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(url, timeout=2).close()
            return
        time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, mocks():
        os.chdir(folder)
        book = execute(cells())
        os.chdir("/")
    PAGE.write_text(json.dumps(book, indent=1, ensure_ascii=False) + "\n")
    print(f"wrote {PAGE.name}: {sum(c['cell_type'] == 'code' for c in book['cells'])} cells executed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
