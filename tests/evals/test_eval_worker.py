"""The worker: a folder that runs anywhere and imports nothing of ours. Its own decisions, without lm-eval."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.evals.base import Asking
from profile_and_optimize.evals.lm_eval import copy_worker, job_of
from profile_and_optimize.evals.pao_eval import __file__ as package
from profile_and_optimize.evals.pao_eval.__main__ import explained
from profile_and_optimize.evals.pao_eval.asking import Said, stopped
from profile_and_optimize.evals.pao_eval.ending import ended
from profile_and_optimize.evals.pao_eval.identity import worker_sha256
from profile_and_optimize.evals.pao_eval.job import Asked, Entry, Job, read_job
from profile_and_optimize.evals.pao_eval.scoring import finish, gathered, metric_of
from profile_and_optimize.evals.pao_eval.tasks import need_answers, shots_of
from profile_and_optimize.evals.pao_eval.told import Refused
from profile_and_optimize.evals.tasks import demo

WORKER = Path(package).parent
ASKING = Asking("http://127.0.0.1:9", "m", "completions", limit=2)


def made_job(out: Path) -> Job:
    return job_of((demo(chat=False),), ASKING, out)


def test_it_imports_nothing_of_ours_and_nothing_heavy_before_it_is_needed() -> None:
    for path in WORKER.glob("*.py"):
        tree = ast.parse(path.read_text())
        every = {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
        every |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
        assert not any("profile_and_optimize" in name for name in every), path
        top = {n.module or "" for n in tree.body if isinstance(n, ast.ImportFrom) and not n.level}
        top |= {a.name for n in tree.body if isinstance(n, ast.Import) for a in n.names}
        assert {t.split(".")[0] for t in top} <= sys.stdlib_module_names, path
        assert {n.level for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)} <= {0, 1}, path


def run(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """By a bare Python from another folder, with nothing on its path but the copy."""
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(place), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-S", "-m", "pao_eval", *args]
    return subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, timeout=60, check=False)


def test_a_copied_folder_runs_by_its_name_and_refuses_a_job_that_is_not_its_own(tmp_path: Path) -> None:
    copy_worker(tmp_path)
    told = run(tmp_path, "serve", "x")
    assert told.returncode == 2 and "usage: python -m pao_eval evaluate JOB.json" in told.stderr
    job = tmp_path / "job.json"
    good = made_job(tmp_path).to_json()
    for change, said in (
        ({"schema": 1}, "schema 1"), ({"worker_sha256": "0" * 64}, "written for the worker 000000000000"),
        ({"more": 1}, "its fields are not"), ({"tasks": [{"name": "x"}]}, "KeyError"),
    ):  # fmt: skip
        job.write_text(json.dumps({**good, **change}))
        told = run(tmp_path, "evaluate", str(job))
        assert told.returncode == 2 and said in told.stderr and "Traceback" not in told.stderr, told.stderr


def test_its_digest_is_that_of_its_source_alone(tmp_path: Path) -> None:
    copy_worker(tmp_path)
    copy = tmp_path / "pao_eval"
    assert worker_sha256(copy) == worker_sha256() == made_job(tmp_path).worker_sha256
    (copy / "__pycache__").mkdir()
    assert worker_sha256(copy) == worker_sha256()
    (copy / "told.py").write_text((copy / "told.py").read_text() + "\n")
    assert worker_sha256(copy) != worker_sha256()
    shutil.copy(WORKER / "told.py", copy / "told.py")
    (copy / "told.py").rename(copy / "telling.py")
    assert worker_sha256(copy) != worker_sha256()


def test_a_job_reads_back_as_it_was_and_is_the_same_for_every_model_asked_alike(tmp_path: Path) -> None:
    job = made_job(tmp_path)
    (tmp_path / "job.json").write_text(json.dumps(job.to_json()))
    assert read_job(str(tmp_path / "job.json")) == job
    other = job_of((demo(chat=False),), replace(ASKING, url="http://127.0.0.1:10", model="n"), tmp_path / "x")
    assert other.same_for_all == job.same_for_all and other != job
    assert job_of((demo(chat=False),), replace(ASKING, seed=1), tmp_path).same_for_all != job.same_for_all


def rows(**metrics: Any) -> list[dict[str, Any]]:
    return [{"filter": f, "metrics": list(metrics), **metrics} for f in ("strict-match", "flexible-extract")]


def test_of_several_scores_the_usual_one_is_taken_and_the_asked_one_before_it() -> None:
    found = rows(bleu=0.5, exact_match=1.0)
    assert metric_of("", found, "t") == ("exact_match", "flexible-extract")
    assert metric_of("exact_match,strict-match", found, "t") == ("exact_match", "strict-match")
    assert metric_of("bleu", found, "t") == ("bleu", "flexible-extract")


@pytest.mark.parametrize("value", [(1, 2), "1", -0.1, 1.5, None, [1.0], float("nan")])
def test_what_is_no_share_per_question_is_no_score(value: object) -> None:
    with pytest.raises(Refused, match="no such score"):
        metric_of("", rows(f1=value), "t")


@dataclass
class Config:
    doc_to_target: str | None = "answer"


class Task:
    OUTPUT_TYPE, VERSION = "generate_until", 1
    config = Config()

    def __init__(self, own: int | None = None) -> None:
        self.own = own

    def get_config(self, name: str) -> int | None:
        return self.own

    def doc_to_target(self, doc: dict[str, Any]) -> Any:
        return doc["answer"]

    def doc_to_text(self, doc: dict[str, Any]) -> str:
        return str(doc["question"])


@pytest.mark.parametrize(
    ("own", "asked", "shown"), [(5, None, 5), (5, 0, 0), (5, 3, 3), (0, 3, 0), (None, None, 0), (None, 2, 2)]
)
def test_a_task_that_shows_no_examples_shows_none(own: int | None, asked: int | None, shown: int) -> None:
    assert shots_of(Task(own), asked) == shown


@pytest.mark.parametrize("target", ["", " \n", None, []])
def test_a_users_own_data_without_an_expected_answer_is_refused_before_it_is_asked(target: object) -> None:
    docs = [{"question": "a", "answer": "1"}, {"question": "b", "answer": target}]
    own = Entry("gsm8k", load="gsm8k", splits=(("", "x.jsonl"),))
    with pytest.raises(Refused, match="question 2 of its data has no expected answer"):
        need_answers(Task(), own, docs, "gsm8k")
    with pytest.raises(Refused, match="question 2"):
        need_answers(Task(), Entry("own", load="/x/own.yaml"), docs, "own")
    need_answers(Task(), own, docs[:1], "gsm8k")
    need_answers(Task(), Entry("gsm8k", load="gsm8k"), docs, "gsm8k")  # of the hub: as it was published


class DatasetNotFoundError(Exception):
    pass


def test_a_failed_task_is_told_in_words_with_what_to_do() -> None:
    gated = explained(Entry("gpqa"), DatasetNotFoundError("gpqa is a gated dataset on the Hub"))
    assert gated["code"] == "data" and "account" in gated["message"] and "HF_TOKEN" in gated["next"]
    lacking = explained(Entry("bbh"), ModuleNotFoundError("No module named 'word2number'", name="word2number"))
    assert lacking["code"] == "needs" and "word2number" in lacking["message"]
    local = explained(Entry("gsm8k", splits=(("", "x"),)), KeyError("answer"))
    assert local["code"] == "task" and "fields of its data" in local["next"]


def choice(reason: object, tokens: object = 3) -> dict[str, Any]:
    return {"choices": [{"finish_reason": reason}], "usage": {"completion_tokens": tokens}}


def test_how_an_answer_ended_is_what_the_server_says_and_a_stop_that_was_reached_ends_it() -> None:
    assert stopped("97", [], choice("stop"), 8).finish == "stop"
    assert stopped("The sum", [], choice("length"), 8).finish == "length"
    told = stopped("97\nQ: and", ["\n", "Q:"], choice("length"), 8)
    assert (told, told.finish) == ("97", "stop")
    assert stopped("97", [], {"choices": [{"finish_reason": "abort"}]}, 8).finish == "abort"


@pytest.mark.parametrize(
    ("reason", "tokens", "said"),
    [(None, 8, "length"), (None, 7, ""), (None, None, ""), (None, True, ""), ("", 9, "length"), ("stop", 8, "stop"), (7, 2, "")],
)  # fmt: skip
def test_a_server_that_gives_no_reason_has_cut_an_answer_of_all_its_tokens(
    reason: object, tokens: object, said: str
) -> None:
    assert ended(reason, tokens, 8) == said


def test_every_question_keeps_how_its_answers_ended_and_a_question_asked_twice_is_told_apart(tmp_path: Path) -> None:
    docs = [{"question": q, "answer": "1", "cluster": ""} for q in ("a", "b", "a")]

    def round_of(*reasons: str) -> list[dict[str, Any]]:
        return [
            {
                "filter": "none", "metrics": ["exact_match"], "exact_match": 1.0, "doc": doc, "target": "1", "arguments": [["asked"]],
                "resps": [[Said("1", reason)]], "filtered_resps": ["1"],
            }
            for doc, reason in zip(docs, reasons, strict=True)
        ]  # fmt: skip

    entry = Entry("own", rows=tuple(Asked(d["question"], "1") for d in docs))
    found = gathered(
        made_job(tmp_path),
        entry,
        Task(),
        "own",
        [round_of("stop", "stop", "length"), round_of("stop", "length", "length")],
        9,
    )
    assert [row.finish for row in found.rows] == [("stop", "stop"), ("stop", "length"), ("length", "length")]
    ids = [row.id for row in found.rows]
    assert ids[2] == f"{ids[0]}-1" and len(set(ids)) == 3 and found.of == 9
    assert finish({"resps": [[(-0.5, True)]]}) == ""
