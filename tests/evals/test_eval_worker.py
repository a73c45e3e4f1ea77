"""The worker's own decisions, without lm-eval: which score is taken, what a failed task is told, what it may import."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

WORKER = Path(__file__).parents[2] / "src/profile_and_optimize/evals/worker"
BESIDE = {"told", "asking", "scoring"}


@pytest.fixture(scope="module")
def worker() -> Iterator[dict[str, ModuleType]]:
    """Its files as modules, for as long as these tests run."""
    sys.path.insert(0, str(WORKER))
    found = {}
    for name in ("told", "scoring", "__main__"):
        spec = importlib.util.spec_from_file_location(
            name if name == "told" else f"worker_{name}", WORKER / f"{name}.py"
        )
        assert spec and spec.loader
        found[name] = importlib.util.module_from_spec(spec)
        if name == "told":
            sys.modules["told"] = found[name]
        spec.loader.exec_module(found[name])
    yield found
    sys.path.remove(str(WORKER))
    del sys.modules["told"]


def test_it_imports_nothing_of_ours_and_nothing_heavy_before_it_is_needed() -> None:
    for path in WORKER.glob("*.py"):
        tree = ast.parse(path.read_text())
        every = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        every |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not any("profile_and_optimize" in name for name in every), path
        top = {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom)}
        top |= {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        assert {t.split(".")[0] for t in top} <= sys.stdlib_module_names | BESIDE, path


def rows(**metrics: Any) -> list[dict[str, Any]]:
    return [{"filter": f, "metrics": list(metrics), **metrics} for f in ("strict-match", "flexible-extract")]


def chosen(worker: dict[str, ModuleType], found: list[dict[str, Any]], metric: str = "") -> tuple[str, str]:
    pair: tuple[str, str] = worker["scoring"].metric_of({"metric": metric}, found, "t")
    return pair


def test_of_several_scores_the_usual_one_is_taken_and_the_asked_one_before_it(worker: dict[str, ModuleType]) -> None:
    found = rows(bleu=0.5, exact_match=1.0)
    assert chosen(worker, found) == ("exact_match", "flexible-extract")
    assert chosen(worker, found, "exact_match,strict-match") == ("exact_match", "strict-match")
    assert chosen(worker, found, "bleu") == ("bleu", "flexible-extract")


@pytest.mark.parametrize("value", [(1, 2), "1", -0.1, 1.5, None, [1.0], float("nan")])
def test_what_is_no_share_per_question_is_no_score(worker: dict[str, ModuleType], value: object) -> None:
    with pytest.raises(worker["told"].Refused, match="no such score"):
        chosen(worker, rows(f1=value))


class Task:
    def __init__(self, own: int | None) -> None:
        self.own = own

    def get_config(self, name: str) -> int | None:
        return self.own


@pytest.mark.parametrize(
    ("own", "asked", "shown"), [(5, None, 5), (5, 0, 0), (5, 3, 3), (0, 3, 0), (None, None, 0), (None, 2, 2)]
)
def test_a_task_that_shows_no_examples_shows_none(
    worker: dict[str, ModuleType], own: int | None, asked: int | None, shown: int
) -> None:
    assert worker["scoring"].shots_of(Task(own), asked) == shown


class DatasetNotFoundError(Exception):
    pass


def test_a_failed_task_is_told_in_words_with_what_to_do(worker: dict[str, ModuleType]) -> None:
    explained = worker["__main__"].explained
    gated = explained({"name": "gpqa"}, DatasetNotFoundError("gpqa is a gated dataset on the Hub"))
    assert gated["code"] == "data" and "account" in gated["message"] and "HF_TOKEN" in gated["next"]
    lacking = explained({"name": "bbh"}, ModuleNotFoundError("No module named 'word2number'", name="word2number"))
    assert lacking["code"] == "needs" and "word2number" in lacking["message"]
    local = explained({"name": "gsm8k", "splits": {"": "x"}}, KeyError("answer"))
    assert local["code"] == "task" and "fields of its data" in local["next"]


def test_questions_that_are_asked_twice_are_told_apart(worker: dict[str, ModuleType]) -> None:
    found = worker["scoring"].numbered([{"id": "a"}, {"id": "b"}, {"id": "a"}])
    assert [number for number, _ in found] == [0, 0, 1]
