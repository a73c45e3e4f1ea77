"""Runs of `pao evaluate` without a server: made answers, written down by the same code."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from profile_and_optimize.evals.base import Outcome, Shown, TaskRun
from profile_and_optimize.evals.conversation import Conversation
from profile_and_optimize.evals.pao_eval.sampling import wanted
from profile_and_optimize.evals.samples import Sample
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops.evaluation.keep import keep, task_row

Right = Callable[[str, int], bool]
Text = Callable[[str, int], str]
Cut = Callable[[str, int], bool]
PLAIN = Conversation((("default", "{{ messages }}"),), (), (("eos_token_id", 2),))
TASKS = {"sums": 300, "words": 180}


def sum_of(task: str, i: int) -> str:
    """A question's own text: short ones that differ in a number are different questions."""
    return f"What is the {task} of {i}?"


def made(
    space: Path, name: str, right: Right, tasks: dict[str, int] | None = None, clusters: int = 0, text: Text = sum_of,
    cut: Cut = lambda task, i: False, of: int | None = None, **told: Any
) -> str:  # fmt: skip
    """A run where question i of a task was answered right when `right(task, i)`; its id. `clusters` is the size of declared ones,
    0 for none; the answers that `cut` names are cut; a task has `of` questions; `told` replaces what is recorded."""
    runs = tuple(_task(t, n, right, clusters, text, cut, of or n) for t, n in (tasks or TASKS).items())
    folder = RunFolder(space / f"20261121T1000{len(list(space.glob('2*'))):02d}Z-{name}")
    folder.event("created", slug=name)
    record: dict[str, Any] = {
        "schema": 3, "tasks": [task_row(r, ()) for r in runs], "failed": [], "cluster_field": None, "limit": None,
        "chat": False, "fewshot": None,
        "model": f"models/{name}", "model_digest": f"sha256:{name}", "served_model": "model", "endpoint": "served for this run",
        "engine": {"name": "vllm", "engine_version": "0.32.0"}, "lm_eval": "0.4.13",
        "worker_sha256": "ab" * 32, "job_sha256": "cd" * 32, "asked_by": PLAIN.to_json(),
        "sampling": {"samples": 1, "temperature": 0.0, "max_tokens": None, "seed": 0, "concurrency": 8},
        "gate": {"passed": True, "why": {}, "blame": None}, "control": None, "warnings": [],
    }  # fmt: skip
    record |= told
    pins = wanted(record["sampling"]["temperature"], record["sampling"]["seed"])
    keep(folder, {"pins": {"sent": pins, "refused": [], "ignored": []}, **record}, Outcome(runs, ()), None)
    folder.close()
    return folder.path.name


def _task(task: str, n: int, right: Right, clusters: int, text: Text, cut: Cut, of: int) -> TaskRun:
    names = [f"{task} {i // clusters}" if clusters else "" for i in range(n)]
    samples = tuple(_sample(task, i, right(task, i), names[i], cut(task, i)) for i in range(n))
    shown = tuple(Shown(task, s.id, f"Q: {text(task, i)}", s.said, text(task, i)) for i, s in enumerate(samples))
    return TaskRun(task, "exact_match", "generate_until", 0, "1", of, samples, shown)


def _sample(task: str, i: int, right: bool, cluster: str, cut: bool) -> Sample:
    answer = str(1000 + i)
    said = answer if right else "no"
    name, finish = hashlib.sha256(f"{task} {i}".encode()).hexdigest(), "length" if cut else "stop"
    return Sample(task, name, (float(right),), answer, (said,), cluster, (finish,))


def most(task: str, i: int) -> bool:
    """Right but for every tenth question."""
    return i % 10 != 0


def losing(share: float, seed: int = 1) -> Right:
    """As `most`, but wrong on this share of the rest."""
    wrong = random.Random(seed)
    drawn: dict[tuple[str, int], bool] = {}
    return lambda task, i: most(task, i) and not drawn.setdefault((task, i), wrong.random() < share)
