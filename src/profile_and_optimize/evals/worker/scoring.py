"""lm-eval's tasks: read, asked in rounds (one a sample), and given back as one row per question."""

from __future__ import annotations

import hashlib
import json
import random
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

from told import Refused

# Of a task's filters the one that a chat model's free answers need; of its metrics the usual share of right answers.
FILTERS, METRICS = ("flexible-extract", "strict-match", "none"), ("exact_match", "acc")


def evaluate(job: dict[str, Any], entry: dict[str, Any]) -> list[dict[str, Any]]:
    """Every task that the entry stands for (a group stands for several), asked and scored."""
    random.seed(job["seed"])  # a task may shuffle its choices while it is read
    tasks = load(entry)
    found = []
    for name, task in tasks.items():
        hold_still(task)
        need_single_question(task, name)
        need_own_examples(task, entry, job["fewshot"], name)
        for doc in islice(task.eval_docs, job["limit"]):
            cluster_of(job, entry, doc)  # refuses before anything is asked
        rounds = [one_round(job, task, name, k) for k in range(job["samples"])]
        found.append(gathered(job, entry, task, name, rounds))
    return found


def hold_still(task: Any) -> None:
    """Questions as they were read first. lm-eval processes them anew each time it goes over them: choices that a task
    shuffles (gpqa) were asked in one order and scored in another, where the data has no cache on disk."""
    for name in ("training_docs", "validation_docs", "test_docs"):
        setattr(task, name, cache(getattr(task, name)))


def load(entry: dict[str, Any]) -> dict[str, Any]:
    from lm_eval.api import task as task_module
    from lm_eval.tasks import TaskManager

    local = Local(entry)
    task_module.datasets = local if local.here else local.library
    if "rows" in entry:
        return {entry["name"]: task_module.ConfigurableTask(config=plain_config(entry))}
    named = entry["load"]
    if named.endswith((".yaml", ".yml")):
        return dict(TaskManager(include_defaults=False).load([named])["tasks"])
    manager = narrow_manager(named) or TaskManager()
    if named not in manager.task_index:
        close = [n for n in manager.all_tasks if named in n][:8]
        told = f"; there are {', '.join(sorted(close))}" if close else ""
        raise Refused("unknown_task", f"lm-eval knows no task {named!r}{told}", "correct the name, or give FILE.yaml")
    return dict(manager.load([named])["tasks"])


def narrow_manager(name: str) -> Any:
    """A manager of the one folder that holds this task, where its file is called like it: reading all of lm-eval's tasks
    takes 15 seconds."""
    import lm_eval.tasks as tasks

    root = Path(tasks.__file__).parent
    for path in sorted(p for n in (f"{name}.yaml", f"_{name}.yaml") for p in root.rglob(n)):
        folder = root / path.relative_to(root).parts[0]
        manager = tasks.TaskManager(include_path=str(folder), include_defaults=False)
        if name in manager.task_index:
            return manager
    return None


class Local:
    """Stands where a task looks for the `datasets` library: its splits come from the user's files, and from nowhere else.

    One file holds the questions and nothing beside them, so it answers for whichever split is asked for.
    """

    def __init__(self, entry: dict[str, Any]) -> None:
        self.splits, self.rows = entry.get("splits"), entry.get("rows")
        self.here = bool(self.splits or self.rows)

    @property
    def library(self) -> Any:
        import datasets

        return datasets

    def __getattr__(self, name: str) -> Any:
        return getattr(self.library, name)

    def load_dataset(self, path: Any = None, name: Any = None, **_: Any) -> Any:
        rows = self.library.Dataset.from_list
        if self.rows:
            return {"test": rows(self.rows)}
        assert self.splits is not None
        found = {split: rows(read_rows(path)) for split, path in self.splits.items()}
        return AnySplit(found[""]) if "" in found else found


class AnySplit(dict[str, Any]):
    def __init__(self, only: Any) -> None:
        super().__init__()
        self.only = only

    def __missing__(self, split: str) -> Any:
        return self.only


def read_rows(path: str) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def plain_config(entry: dict[str, Any]) -> dict[str, Any]:
    """A task of questions and answers: right is what equals the answer once white space around both is gone."""

    def text(doc: dict[str, Any]) -> str:
        return str(entry["format"]).replace("{question}", doc["question"])

    def right(doc: dict[str, Any], said: list[str]) -> dict[str, float]:
        return {"exact_match": float(said[0].strip() == doc["answer"].strip())}

    return {
        "task": entry["name"], "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "doc_to_text": text, "doc_to_target": lambda doc: doc["answer"], "process_results": right, "num_fewshot": 0,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"until": entry["until"], "max_gen_toks": entry["max_tokens"], "do_sample": False},
    }  # fmt: skip


def need_single_question(task: Any, name: str) -> None:
    kind = getattr(task, "OUTPUT_TYPE", None)
    if kind not in ("generate_until", "multiple_choice", "loglikelihood"):
        raise Refused("kind", f"{name} gives no score per question ({kind})", "a task of questions")
    if getattr(task, "UNSAFE_CODE", False):
        raise Refused("unsafe", f"{name} runs the code that a model writes, which is not done here", "another task")
    if getattr(task, "MULTIMODAL", False):
        raise Refused("kind", f"{name} needs pictures or sound", "a task of text")


def need_own_examples(task: Any, entry: dict[str, Any], asked: int | None, name: str) -> None:
    """Examples must not come out of the file of questions: a question among its own examples gives its answer away."""
    shots = shots_of(task, asked)
    split = getattr(getattr(task, "fewshot_cfg", None), "split", None)
    if shots and entry.get("splits") and "" in entry["splits"] and split is not None:
        raise Refused(
            "examples", f"{name} shows {shots} examples from its split {split!r}, and one file holds the questions alone",
            f"--data {entry['name']}=FOLDER with a {split}.jsonl beside the questions', or --fewshot 0",
        )  # fmt: skip


def shots_of(task: Any, asked: int | None) -> int:
    """As lm-eval decides it: a task that says 0 stays at 0."""
    own = task.get_config("num_fewshot")
    return int(own or 0) if asked is None or own == 0 else asked


def one_round(job: dict[str, Any], task: Any, name: str, sample: int) -> dict[str, Any]:
    """One sample of every question. {"samples": lm-eval's rows, "cut": answers that ran into the limit of tokens}."""
    from asking import endpoint_class
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.tasks import TaskManager

    lm = endpoint_class()(job, name, sample)
    shots = job["fewshot"]
    if task.get_config("num_fewshot") == 0:
        shots = None
    found = simple_evaluate(
        model=lm, tasks=[task], num_fewshot=shots, limit=job["limit"], log_samples=True, bootstrap_iters=0,
        apply_chat_template=job["api"] == "chat", fewshot_as_multiturn=True, random_seed=job["seed"],
        numpy_random_seed=job["seed"], torch_random_seed=job["seed"], fewshot_random_seed=job["seed"],
        task_manager=TaskManager(include_defaults=False),
    )  # fmt: skip
    assert found is not None
    return {"samples": found["samples"][name], "cut": lm.cut}


def gathered(
    job: dict[str, Any], entry: dict[str, Any], task: Any, name: str, rounds: list[dict[str, Any]]
) -> dict[str, Any]:
    """The rounds of a task as rows per question."""
    metric, chosen = metric_of(job, rounds[0]["samples"], name)
    picked = [[row for row in r["samples"] if row["filter"] == chosen] for r in rounds]
    rows = [row_of(job, task, entry, metric, same) for same in zip(*picked, strict=True)]
    if job["api"] == "chat":
        for row in rows:
            row["asked"] = json.dumps(json.loads(row["asked"])[1], ensure_ascii=False)
    for seen, row in numbered(rows):
        row["id"] += f"-{seen}" if seen else ""
    return {
        "task": name, "metric": metric if chosen == "none" else f"{metric},{chosen}", "kind": task.OUTPUT_TYPE,
        "fewshot": shots_of(task, job["fewshot"]), "cut": sum(r["cut"] for r in rounds), "rows": rows,
        "version": str(getattr(task, "VERSION", "unknown")),
    }  # fmt: skip


def metric_of(job: dict[str, Any], rows: list[dict[str, Any]], name: str) -> tuple[str, str]:
    """(metric, filter): the asked one, else the usual. Only a number from 0 to 1 per question can be compared."""
    offered = {(m, row["filter"]): row[m] for row in rows for m in row["metrics"]}
    usable = [key for key, value in offered.items() if is_share(value)]
    if job["metric"]:
        metric, _, wanted = job["metric"].partition(",")
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


def row_of(
    job: dict[str, Any], task: Any, entry: dict[str, Any], metric: str, same: tuple[dict[str, Any], ...]
) -> dict[str, Any]:
    """One question over its samples."""
    first = same[0]
    doc = first["doc"]
    identity = [doc["question"], doc["answer"]] if "rows" in entry else doc
    text = json.dumps(identity, sort_keys=True, ensure_ascii=False, default=str)
    return {
        "id": hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16],
        "scores": [float(row[metric]) for row in same], "expected": expected(task, first),
        "said": [said(task, row) for row in same], "asked": str(first["arguments"][0][0]),
        "answers": [whole(task, row) for row in same], "question": own_text(task, entry, first),
        "cluster": cluster_of(job, entry, doc),
    }  # fmt: skip


def own_text(task: Any, entry: dict[str, Any], row: dict[str, Any]) -> str:
    """The question without examples and template; what was sent, where a task does not tell it apart."""
    if "rows" in entry:
        return str(row["doc"]["question"])
    text = task.doc_to_text(row["doc"])
    return text if isinstance(text, str) and text.strip() else str(row["arguments"][0][0])


def cluster_of(job: dict[str, Any], entry: dict[str, Any], doc: dict[str, Any]) -> str:
    """The declared cluster, "" for none. A field's value is a name within its entry of --tasks alone: passage 1 of one data
    set is not passage 1 of another."""
    if "rows" in entry:
        return str(doc["cluster"])
    field = job["cluster_field"]
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
    return f"{entry['name']}: {text}"


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


def numbered(rows: list[dict[str, Any]]) -> list[tuple[int, dict[str, Any]]]:
    """Each row with how many before it ask the same."""
    seen: dict[str, int] = {}
    out = []
    for row in rows:
        out.append((seen.get(row["id"], 0), row))
        seen[row["id"]] = seen.get(row["id"], 0) + 1
    return out
