"""lm-eval's tasks: read, on the user's own data where it is given, and held to what can be asked here."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from .job import Entry
from .told import Refused


def load(entry: Entry) -> dict[str, Any]:
    """Task by name; a group stands for several. Raises Refused for a name that lm-eval does not know."""
    from lm_eval.api import task as task_module
    from lm_eval.tasks import TaskManager

    local = Local(entry)
    task_module.datasets = local if local.here else local.library
    if entry.rows:
        return {entry.name: task_module.ConfigurableTask(config=plain_config(entry))}
    named = entry.load
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

    def __init__(self, entry: Entry) -> None:
        self.splits, self.rows = dict(entry.splits), [asdict(row) for row in entry.rows]
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


def plain_config(entry: Entry) -> dict[str, Any]:
    """A task of questions and answers: right is what equals the answer once white space around both is gone."""

    def text(doc: dict[str, Any]) -> str:
        return entry.format.replace("{question}", doc["question"])

    def right(doc: dict[str, Any], said: list[str]) -> dict[str, float]:
        return {"exact_match": float(said[0].strip() == doc["answer"].strip())}

    return {
        "task": entry.name, "dataset_path": "json", "test_split": "test", "output_type": "generate_until",
        "doc_to_text": text, "doc_to_target": lambda doc: doc["answer"], "process_results": right, "num_fewshot": 0,
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "generation_kwargs": {"until": list(entry.until), "max_gen_toks": entry.max_tokens, "do_sample": False},
    }  # fmt: skip


def hold_still(task: Any) -> None:
    """Questions as they were read first. lm-eval processes them anew each time it goes over them: choices that a task
    shuffles (gpqa) were asked in one order and scored in another, where the data has no cache on disk."""
    for name in ("training_docs", "validation_docs", "test_docs"):
        setattr(task, name, cache(getattr(task, name)))


def need_single_question(task: Any, name: str) -> None:
    kind = getattr(task, "OUTPUT_TYPE", None)
    if kind not in ("generate_until", "multiple_choice", "loglikelihood"):
        raise Refused("kind", f"{name} gives no score per question ({kind})", "a task of questions")
    if getattr(task, "UNSAFE_CODE", False):
        raise Refused("unsafe", f"{name} runs the code that a model writes, which is not done here", "another task")
    if getattr(task, "MULTIMODAL", False):
        raise Refused("kind", f"{name} needs pictures or sound", "a task of text")


def need_own_examples(task: Any, entry: Entry, asked: int | None, name: str) -> None:
    """Examples must not come out of the file of questions: a question among its own examples gives its answer away."""
    shots = shots_of(task, asked)
    split = getattr(getattr(task, "fewshot_cfg", None), "split", None)
    if shots and "" in dict(entry.splits) and split is not None:
        raise Refused(
            "examples", f"{name} shows {shots} examples from its split {split!r}, and one file holds the questions alone",
            f"--data {entry.name}=FOLDER with a {split}.jsonl beside the questions', or --fewshot 0",
        )  # fmt: skip


def shots_of(task: Any, asked: int | None) -> int:
    """As lm-eval decides it: a task that says 0 stays at 0."""
    own = task.get_config("num_fewshot")
    return int(own or 0) if asked is None or own == 0 else asked


def need_answers(task: Any, entry: Entry, docs: list[Any], name: str) -> None:
    """Of a user's own data: an empty expected answer makes silence right. Tasks that score without one name none."""
    own = entry.splits or entry.load.endswith((".yaml", ".yml"))
    if not own or task.OUTPUT_TYPE != "generate_until" or getattr(task.config, "doc_to_target", None) is None:
        return
    for number, doc in enumerate(docs, start=1):
        target = task.doc_to_target(doc)
        if target is None or target == [] or (isinstance(target, str) and not target.strip()):
            raise Refused(
                "answer", f"question {number} of its data has no expected answer ({target!r}): {str(doc)[:100]}",
                "give it one, or remove it",
            )  # fmt: skip
