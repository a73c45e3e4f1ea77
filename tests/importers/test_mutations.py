"""Real captures with one value gone or garbled: a number is unknown, refused or as before, and never another one."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers import read
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.ops.lint import shown

DATA = Path(__file__).parents[1] / "data/importers"
GONE = object()
GARBAGE: dict[str, Any] = {
    "gone": GONE, "null": None, "NaN": math.nan, "Infinity": math.inf, "text": "n/a", "negative": -3.0, "list": [],
}  # fmt: skip
FILES = (
    "vllm-good1.json", "vllm-cap.json", "vllm-errors.json", "vllm-aggregates.json", "sglang-good.jsonl", "sglang-errors.jsonl",
    "guidellm-errors.json", "aiperf-errors", "genai-perf.json",
)  # fmt: skip
# No importer reads these parts of guidellm's tables, and they are most of them.
UNREAD = frozenset(
    {"total", "mode", "variance", "std_dev", "min", "max", "p001", "p01", "p05", "p10", "p25", "p75", "p95", "p999"}
)
DEEP = 7
# What is read from the file for its own sake and not as a measurement: an infinite rate says
# that there is none, and no cap that there is none.
SAYS_OF_LOAD = (("request_rate", "Infinity"), ("max_concurrency", "null"))
# A list of requests computes what the file does not print; rounding of the capture is all that may differ.
ROUNDING = 1e-5


def documents(name: str) -> list[Any]:
    if name == "genai-perf.json":
        return [genai_perf()]
    file = DATA / name / "profile_export_aiperf.json" if (DATA / name).is_dir() else DATA / name
    return (
        [json.loads(line) for line in file.read_text().splitlines()]
        if file.suffix == ".jsonl"
        else [json.loads(file.read_text())]
    )


def genai_perf() -> dict[str, Any]:
    """As genai-perf writes it; of our own making, since it does not run here."""

    def of(unit: str, value: float) -> dict[str, Any]:
        return {
            "unit": unit,
            "avg": value,
            "p50": value,
            "p90": value,
            "p99": value,
            "min": value,
            "max": value,
            "std": 0.1,
        }

    return {
        "request_throughput": {"unit": "requests/sec", "avg": 4.0}, "request_latency": of("ms", 2000.0),
        "request_count": {"unit": "count", "avg": 40.0}, "time_to_first_token": of("ms", 200.0),
        "inter_token_latency": of("ms", 20.0), "output_token_throughput": {"unit": "tokens/sec", "avg": 364.0},
        "output_sequence_length": of("tokens", 91.0), "input_sequence_length": of("tokens", 300.0),
        "input_config": {
            "model_names": ["m"], "endpoint": {"type": "chat", "service_kind": "openai", "streaming": True},
            "perf_analyzer": {"path": "perf_analyzer", "stimulus": {"concurrency": 8}, "measurement": {"mode": "request_count", "num": 16}},
        },
    }  # fmt: skip


def places(value: Any, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of the document down to DEEP, and the first entry of every list."""
    if here:
        yield here
    if len(here) >= DEEP:
        return
    below = (
        [(k, v) for k, v in value.items() if k not in UNREAD or "metrics" not in here]
        if isinstance(value, dict)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else ()
    )
    for key, child in below:
        yield from places(child, (*here, key))


def spoiled(doc: Any, place: tuple[Any, ...], garbage: Any) -> Any:
    top = copy.copy(doc)
    at = top
    for key in place[:-1]:
        at[key] = copy.copy(at[key])
        at = at[key]
    if garbage is GONE:
        del at[place[-1]]
    else:
        at[place[-1]] = garbage
    return top


def numbers(run: Imported) -> dict[str, float]:
    """Every number that a reader of the result is given, by its place."""
    said = {k: v for k, v in shown(run).items() if k not in ("path", "from", "aside")}
    flat: dict[str, float] = {}

    def walk(value: Any, name: str) -> None:
        if isinstance(value, dict):
            for key, child in value.items():
                walk(child, f"{name}.{key}")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            flat[name] = value

    walk(said, "")
    flat["tokens in"], flat["tokens out"] = (
        math.nan if n is None else n for n in (run.input_tokens, run.output_tokens)
    )
    return {k: v for k, v in flat.items() if not math.isnan(v)}


def written(folder: Path, name: str, docs: list[Any]) -> Path:
    if (DATA / name).is_dir():
        for beside in ("profile_export.jsonl",):
            if not (folder / beside).exists():
                (folder / beside).write_bytes((DATA / name / beside).read_bytes())
        target = folder / "profile_export_aiperf.json"
    else:
        target = folder / name
    target.write_text("\n".join(json.dumps(d) for d in docs))
    return target


@pytest.mark.parametrize("name", FILES)
def test_a_value_gone_or_garbled_makes_unknown_or_a_refusal_and_never_another_number(name: str, tmp_path: Path) -> None:
    docs = documents(name)
    before = [numbers(r) for r in read(written(tmp_path, name, docs))]
    kinds = [r.load for r in read(written(tmp_path, name, docs))]
    wrong = []
    for place in places(docs[0]):
        for word, garbage in GARBAGE.items():
            if isinstance(place[-1], int) and word in ("gone", "list"):
                continue  # a list that is shorter is another list
            if len(place) > 4 and word not in ("gone", "NaN", "text"):
                continue
            try:
                runs = read(written(tmp_path, name, [spoiled(docs[0], place, garbage), *docs[1:]]))
            except WrongUse:
                continue
            if len(runs) != len(before):
                continue
            wrong += [
                f"{place} {word}: {c}"
                for was, kind, run in zip(before, kinds, runs, strict=True)
                for c in changed(was, kind, run, (place[-1], word))
            ]
    assert not wrong, "\n".join(wrong[:20])


def changed(before: dict[str, float], kind: str, run: Imported, place: tuple[Any, str]) -> list[str]:
    after = numbers(run)
    found = [
        f"{key} {before.get(key)} -> {value}" for key, value in after.items()
        if key not in before or abs(value - before[key]) > ROUNDING * max(abs(before[key]), abs(value))
    ]  # fmt: skip
    if run.load.value != "load unknown" and run.load != kind and place not in SAYS_OF_LOAD:
        found.append(f"load {kind} -> {run.load}")
    return found
