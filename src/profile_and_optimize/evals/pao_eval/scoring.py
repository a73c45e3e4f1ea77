"""lm-eval's tasks: read, asked in rounds (one a sample), and given back as one row per question."""

from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, dataclass
from typing import Any

from .asking import Pinning, Said, served
from .job import Entry, Job
from .tasks import hold_still, load, need_answers, need_own_examples, need_single_question, shots_of
from .told import Refused

# Of a task's filters the one that a chat model's free answers need; of its metrics the usual share of right answers.
FILTERS, METRICS = ("flexible-extract", "strict-match", "none"), ("exact_match", "acc")


@dataclass(frozen=True, slots=True)
class Row:
    """One question of a task; a value per sample in the lists. `finish` says how each answer ended, "" where nobody told."""

    id: str
    scores: tuple[float, ...]
    expected: str
    said: tuple[str, ...]
    finish: tuple[str, ...]
    asked: str
    answers: tuple[str, ...]
    question: str
    cluster: str


@dataclass(frozen=True, slots=True)
class Scores:
    """One task, asked. `of` is how many questions it has, asked or not."""

    task: str
    metric: str
    kind: str
    fewshot: int
    version: str
    of: int
    rows: tuple[Row, ...]


def rows_of(job: Job, entry: Entry, pinning: Pinning) -> list[dict[str, Any]]:
    """Every task that the entry stands for (a group stands for several), asked and scored, as JSON."""
    random.seed(job.seed)  # a task may shuffle its choices while it is read
    found = []
    for name, task in load(entry).items():
        hold_still(task)
        need_single_question(task, name)
        need_own_examples(task, entry, job.fewshot, name)
        docs = list(task.eval_docs)
        need_answers(task, entry, docs[: job.limit], name)
        for doc in docs[: job.limit]:
            cluster_of(job, entry, doc)  # refuses before anything is asked
        rounds = [one_round(job, pinning, task, name, k) for k in range(job.samples)]
        found.append(asdict(gathered(job, entry, task, name, rounds, len(docs))))
    return found


def one_round(job: Job, pinning: Pinning, task: Any, name: str, sample: int) -> list[dict[str, Any]]:
    """One sample of every question, as lm-eval's rows."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    shots = job.fewshot
    if task.get_config("num_fewshot") == 0:
        shots = None
    found = simple_evaluate(
        model=served(job, pinning, name, sample), tasks=[task], num_fewshot=shots, limit=job.limit, log_samples=True,
        bootstrap_iters=0, apply_chat_template=job.api == "chat", fewshot_as_multiturn=True, random_seed=job.seed,
        numpy_random_seed=job.seed, torch_random_seed=job.seed, fewshot_random_seed=job.seed,
        task_manager=TaskManager(include_defaults=False),
    )  # fmt: skip
    assert found is not None
    rows: list[dict[str, Any]] = found["samples"][name]
    return rows


def gathered(job: Job, entry: Entry, task: Any, name: str, rounds: list[list[dict[str, Any]]], of: int) -> Scores:
    """The rounds of a task as rows per question. Questions that are asked twice are told apart by a number."""
    metric, chosen = metric_of(job.metric, rounds[0], name)
    picked = [[row for row in one if row["filter"] == chosen] for one in rounds]
    seen: dict[str, int] = {}
    rows = []
    for same in zip(*picked, strict=True):
        digest = id_of(entry, same[0]["doc"])
        before = seen[digest] = seen.get(digest, -1) + 1
        rows.append(row_of(job, task, entry, metric, same, digest + (f"-{before}" if before else "")))
    return Scores(
        name, metric if chosen == "none" else f"{metric},{chosen}", task.OUTPUT_TYPE, shots_of(task, job.fewshot),
        str(getattr(task, "VERSION", "unknown")), of, tuple(rows),
    )  # fmt: skip


def metric_of(asked: str, rows: list[dict[str, Any]], name: str) -> tuple[str, str]:
    """(metric, filter): the asked one, else the usual. Only a number from 0 to 1 per question can be compared."""
    offered = {(m, row["filter"]): row[m] for row in rows for m in row["metrics"]}
    usable = [key for key, value in offered.items() if is_share(value)]
    if asked:
        metric, _, wanted = asked.partition(",")
        usable = [(m, f) for m, f in usable if m == metric and wanted in ("", f)]
    if not usable:
        there = ", ".join(f"{m},{f}" for m, f in offered)
        raise Refused("metric", f"{name} has no such score per question; it has {there}", "--metric NAME,FILTER")
    return min(usable, key=lambda key: (rank(METRICS, key[0]), rank(FILTERS, key[1])))


def rank(order: tuple[str, ...], name: str) -> int:
    return order.index(name) if name in order else len(order)


def is_share(value: Any) -> bool:
    try:
        return not isinstance(value, (str, list, tuple, dict)) and 0.0 <= float(value) <= 1.0
    except (TypeError, ValueError):
        return False


def row_of(job: Job, task: Any, entry: Entry, metric: str, same: tuple[dict[str, Any], ...], name: str) -> Row:
    """One question over its samples."""
    first = same[0]
    asked = str(first["arguments"][0][0])
    if job.api == "chat":
        asked = json.dumps(json.loads(asked)[1], ensure_ascii=False)
    return Row(
        name, tuple(float(row[metric]) for row in same), expected(task, first), tuple(said(task, row) for row in same),
        tuple(finish(row) for row in same), asked, tuple(whole(task, row) for row in same), own_text(task, entry, first),
        cluster_of(job, entry, first["doc"]),
    )  # fmt: skip


def id_of(entry: Entry, doc: dict[str, Any]) -> str:
    """A digest of the question itself, the same in every run that asks it."""
    identity = [doc["question"], doc["answer"]] if entry.rows else doc
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def finish(row: dict[str, Any]) -> str:
    """How the answer ended; probabilities do not end."""
    answer = row["resps"][0][0]
    return answer.finish if isinstance(answer, Said) else ""


def own_text(task: Any, entry: Entry, row: dict[str, Any]) -> str:
    """The question without examples and template; what was sent, where a task does not tell it apart."""
    if entry.rows:
        return str(row["doc"]["question"])
    text = task.doc_to_text(row["doc"])
    return text if isinstance(text, str) and text.strip() else str(row["arguments"][0][0])


def cluster_of(job: Job, entry: Entry, doc: dict[str, Any]) -> str:
    """The declared cluster, "" for none. A field's value is a name within its entry of --tasks alone: passage 1 of one data
    set is not passage 1 of another."""
    if entry.rows:
        return str(doc["cluster"])
    field = job.cluster_field
    if not field:
        return ""
    if field not in doc:
        there = ", ".join(sorted(map(str, doc)))
        raise Refused("cluster", f"its data has no field {field!r}; it has {there}", "--cluster-field NAME")
    value = doc[field]
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    if value is None or not text.strip():
        raise Refused(
            "cluster",
            f"the field {field!r} is empty in a question: {str(doc)[:100]}",
            "name a field that every question has",
        )
    return f"{entry.name}: {text}"


def whole(task: Any, row: dict[str, Any]) -> str:
    """All that came back: the text, or of every choice [log probability, is it the greedy one]."""
    if task.OUTPUT_TYPE == "generate_until":
        return str(row["resps"][0][0])
    return json.dumps([one[0] for one in row["resps"]])


def expected(task: Any, row: dict[str, Any]) -> str:
    target = row["target"]
    if task.OUTPUT_TYPE == "multiple_choice" and isinstance(target, int):
        return str(task.doc_to_choice(row["doc"])[target])
    return target if isinstance(target, str) else json.dumps(target, ensure_ascii=False, default=str)


def said(task: Any, row: dict[str, Any]) -> str:
    """The answer as it was scored: what the filter took of the text, or the most likely choice."""
    given = row["filtered_resps"]
    if task.OUTPUT_TYPE == "multiple_choice":
        choices = task.doc_to_choice(row["doc"])
        likely = [float(one[0]) for one in given[: len(choices)]]
        return str(choices[likely.index(max(likely))])
    one = given[0] if isinstance(given, list) and given else given
    return one if isinstance(one, str) else json.dumps(one, ensure_ascii=False, default=str)
