"""lm-eval itself in its tool environment, against a server on the loopback: what it asks, what it makes of the answers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.evals.base import Asking, Outcome, TaskRun
from profile_and_optimize.evals.lm_eval import LmEval
from profile_and_optimize.evals.pao_eval.identity import worker_sha256
from profile_and_optimize.evals.pao_eval.sampling import NEUTRAL
from profile_and_optimize.evals.tasks import wanted_tasks
from profile_and_optimize.toolenv.find import find

sys.path.insert(0, str(Path(__file__).parent))
from answering import Answering, answering, is_probe

pytestmark = [pytest.mark.engine, pytest.mark.slow]

CHOICES = """task: own_choices
dataset_path: json
dataset_kwargs: {data_files: {test: PATH}}
output_type: multiple_choice
test_split: test
doc_to_text: "{{q}}"
doc_to_target: "{{label}}"
doc_to_choice: "{{choices}}"
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@dataclass(frozen=True)
class Place:
    """A tool environment, a server and a folder of data."""

    evaluator: LmEval
    server: Answering
    folder: Path

    def ask(self, tasks: str, data: dict[str, str] | None = None, *, chat: bool = False, **more: Any) -> Outcome:
        self.server.seen.clear()
        asking = Asking(self.server.url, "m", "chat" if chat else "completions", **{"timeout_s": 20.0, **more})
        work = self.folder / f"work-{len(list(self.folder.iterdir()))}"
        return self.evaluator.run(wanted_tasks(tasks, data or {}, chat=chat), asking, work, lambda text: None)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [body for path, body, _ in self.server.seen if path != "/tokenize" and not is_probe(body)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    env = find("eval")
    if env is None:
        pytest.skip("the eval tool environment is not installed: pao tools install eval")
    folder = tmp_path_factory.mktemp("evals")
    lines(folder / "sums.jsonl", [{"question": f"What is {i} + 2?", "answer": str(i + 2 + i // 4)} for i in range(5)])
    lines(folder / "gsm/test.jsonl", [{"question": f"{i} + 2", "answer": f"so\n#### {i + 2}"} for i in range(5)])
    lines(folder / "gsm/train.jsonl", [{"question": f"{i} + 90", "answer": f"so\n#### {i + 90}"} for i in range(8)])
    lines(folder / "c.jsonl", [{"q": f"Pick {i}", "choices": ["good", "Zad"], "label": i % 2} for i in range(4)])
    (folder / "choices.yaml").write_text(CHOICES.replace("PATH", str(folder / "c.jsonl")))
    with answering() as server:
        yield Place(LmEval(env), server, folder)


def lines(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def asked(place: Place) -> tuple[dict[str, TaskRun], list[dict[str, Any]]]:
    """Three kinds of task in one run without a chat template, with a server that is busy at first."""
    place.server.fail_first = 1
    tasks = f"gsm8k,{place.folder / 'sums.jsonl'},{place.folder / 'choices.yaml'}"
    found = place.ask(tasks, {"gsm8k": str(place.folder / "gsm")}, limit=5)
    assert found.failed == ()
    return {run.task: run for run in found.runs}, list(place.bodies)


def test_a_known_task_on_local_data_keeps_its_examples_and_its_extraction(
    asked: tuple[dict[str, TaskRun], list[dict[str, Any]]],
) -> None:
    run = asked[0]["gsm8k"]
    assert (run.metric, run.fewshot, run.kind) == ("exact_match,flexible-extract", 5, "generate_until")
    assert [s.mean for s in run.samples] == [1.0] * 5
    assert run.shown[0].asked.count("Question:") == 6 and "+ 90" in run.shown[0].asked
    assert all(
        b["temperature"] == 0.0 and b.items() >= NEUTRAL.items() and b["seed"] == 0 for b in asked[1] if "echo" not in b
    )
    assert all(s.finish == ("stop",) for s in run.samples) and (run.of, run.cut) == (5, 0)


def test_a_file_of_questions_is_scored_by_equality(asked: tuple[dict[str, TaskRun], list[dict[str, Any]]]) -> None:
    run = asked[0]["sums"]
    assert [s.mean for s in run.samples] == [1.0] * 4 + [0.0]
    assert run.samples[4].said == ("6",) and run.samples[4].expected == "7" and run.shown[4].asked == "What is 4 + 2?"
    assert [b["stop"] for b in asked[1] if b.get("prompt") == "What is 4 + 2?"] == [["\n"]]


def test_choices_are_compared_by_the_probability_of_their_own_tokens(
    asked: tuple[dict[str, TaskRun], list[dict[str, Any]]],
) -> None:
    run = asked[0]["own_choices"]
    # " good" is five tokens at -0.1, " Zad" four with one at -5: good always wins, and is right every second time.
    assert [s.mean for s in run.samples] == [1.0, 0.0, 1.0, 0.0] and {s.said for s in run.samples} == {("good",)}
    assert [s.expected for s in run.samples] == ["good", "Zad"] * 2
    good, bad = json.loads(run.shown[0].answers[0])
    assert good == [pytest.approx(-0.5), True] and bad == [pytest.approx(-5.3), False]


def test_the_same_questions_have_the_same_ids_with_and_without_a_template_and_samples_have_seeds(
    place: Place, asked: tuple[dict[str, TaskRun], list[dict[str, Any]]]
) -> None:
    tasks = f"gsm8k,{place.folder / 'sums.jsonl'},{place.folder / 'choices.yaml'}"
    data = {"gsm8k": str(place.folder / "gsm/test.jsonl")}
    found = place.ask(tasks, data, chat=True, fewshot=0, samples=3, temperature=0.5)
    runs = {run.task: run for run in found.runs}
    for name in ("gsm8k", "sums"):
        assert [s.id for s in runs[name].samples] == [s.id for s in asked[0][name].samples]
        assert {len(s.scores) for s in runs[name].samples} == {3}
    seeds = [b["seed"] for b in place.bodies]
    assert len(seeds) == len(set(seeds)) == 30 and {b["temperature"] for b in place.bodies} == {0.5}
    assert json.loads(runs["gsm8k"].shown[0].asked) == [{"role": "user", "content": "Question: 0 + 2\nAnswer:"}]
    assert all(b["messages"][-1]["role"] == "user" for b in place.bodies)
    (refused,) = found.failed
    assert refused.task == "choices" and refused.code == "needs_logprobs" and "--chat" in refused.next


def test_what_cannot_be_asked_is_said_task_by_task(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    found = place.ask("gsm8k,mmlu_pro,humaneval", {"gsm8k": str(place.folder / "gsm/test.jsonl")})
    told = {f.task: f for f in found.failed}
    assert found.runs == () and place.bodies == []
    assert told["gsm8k"].code == "examples" and "train.jsonl" in told["gsm8k"].next
    assert told["mmlu_pro"].code == "data" and "--data mmlu_pro=FILE.jsonl" in told["mmlu_pro"].next
    assert "TIGER-Lab/MMLU-Pro" in told["mmlu_pro"].message and "Traceback" not in told["mmlu_pro"].message
    assert told["humaneval"].code == "data"


def test_a_redirect_is_not_followed_and_a_question_without_an_answer_gives_no_score(place: Place) -> None:
    with answering() as elsewhere:
        place.server.location = elsewhere.url
        try:
            found = place.ask(str(place.folder / "sums.jsonl"))
        finally:
            place.server.location = ""
        assert elsewhere.seen == []
    (refused,) = found.failed
    assert refused.code == "unanswered" and "answered 307" in refused.message and found.runs == ()


def test_choices_that_a_task_shuffles_are_scored_in_the_order_in_which_they_were_asked(place: Place) -> None:
    wrong = ["Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"]
    rows = [
        {"Question": f"Which? {i}", "Correct Answer": f"right {i}", **{w: f"wrong {i} {w[-1]}" for w in wrong}} for i in range(24)
    ]  # fmt: skip
    lines(place.folder / "gpqa.jsonl", rows)

    def knows(prompt: str, *, chat: bool) -> str:
        """The letter before the right choice."""
        at = prompt.index(") right")
        return f"The answer is ({prompt[at - 1]})."

    place.server.answer, before = knows, place.server.answer
    try:
        data = {"gpqa_diamond": str(place.folder / "gpqa.jsonl")}
        first, second = (place.ask("gpqa_diamond", data, chat=True) for _ in range(2))
    finally:
        place.server.answer = before
    (run,), (again,) = first.runs, second.runs
    assert [s.mean for s in run.samples] == [1.0] * 24 and len({s.expected for s in run.samples}) == 4
    assert run.samples == again.samples and run.shown == again.shown


def test_the_servers_name_stands_for_the_judged_address_whatever_a_look_up_would_say(place: Place) -> None:
    place.server.seen.clear()
    url = place.server.url.replace("127.0.0.1", "server.invalid")
    wanted = wanted_tasks(str(place.folder / "sums.jsonl"), {}, chat=False)
    asking = Asking(url, "m", "completions", limit=2, addresses=("127.0.0.1",))
    found = place.evaluator.run(wanted, asking, place.folder / "judged", lambda text: None)
    assert [s.mean for s in found.runs[0].samples] == [1.0, 1.0] and len(place.bodies) == 2


def test_cut_answers_are_marked_and_what_the_server_refuses_is_not_sent(place: Place) -> None:
    place.server.finish = lambda said: "length" if said == "4" else "stop"
    place.server.unknown = ("top_k", "min_p")
    try:
        found = place.ask(str(place.folder / "sums.jsonl"), limit=4)
    finally:
        place.server.finish, place.server.unknown = (lambda said: "stop"), ()
    (run,) = found.runs
    assert [s.finish for s in run.samples] == [("stop",), ("stop",), ("length",), ("stop",)]
    assert [s.mean for s in run.samples] == [1.0, 1.0, None, 1.0] and (run.cut, run.of) == (1, 5)
    assert found.pins is not None and found.pins.refused == ("top_k", "min_p") and found.pins.ignored == ()
    assert all("top_k" not in b and b["repetition_penalty"] == 1.0 for b in place.bodies) and len(place.bodies) == 4
    assert found.worker_sha256 == worker_sha256() and len(found.job_sha256) == 64


def test_local_data_without_an_expected_answer_is_refused_before_anything_is_asked(place: Place) -> None:
    lines(place.folder / "silent.jsonl", [{"q": "one", "a": "1"}, {"q": "two", "a": ""}])
    own = CHOICES.split("doc_to_text")[0].replace("own_choices", "silent").replace("multiple_choice", "generate_until")
    config = f'{own}doc_to_text: "{{{{q}}}}"\ndoc_to_target: "{{{{a}}}}"\nmetric_list: [{{metric: exact_match}}]\n'
    (place.folder / "silent.yaml").write_text(config.replace("PATH", str(place.folder / "silent.jsonl")))
    (refused,) = place.ask(str(place.folder / "silent.yaml")).failed
    assert refused.code == "answer" and "question 2" in refused.message and place.bodies == []
