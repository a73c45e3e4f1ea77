"""pao evaluate: what it leaves behind, whose fault it is when nothing comes of it, and what verify makes of it. lm-eval
is a stand-in here (tests/evals/test_lm_eval.py runs it), the questions are really asked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from machine_help import commands
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import BrokeMidway, WrongUse
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.evidence.manifest import write_manifest
from profile_and_optimize.ops import verify_evaluation
from profile_and_optimize.ops.evaluate import EvaluateRequest
from profile_and_optimize.ops.evaluate import run as evaluate
from profile_and_optimize.ops.evaluation.target import instruct
from profile_and_optimize.ops.verify import check, look_at, text_of

EVALS = Path(__file__).parents[1] / "evals"
sys.path.insert(0, str(EVALS))
from answering import Answering, answering  # noqa: E402


@pytest.fixture
def server() -> Iterator[Answering]:
    with answering() as made:
        yield made


@pytest.fixture
def python(tmp_path: Path) -> Path:
    return fake_python(tmp_path)


def fake_python(folder: Path) -> Path:
    """A Python that is said to have lm-eval."""
    path = folder / "env/python"
    path.parent.mkdir()
    path.write_text(f"#!{sys.executable}\n{(EVALS / 'fake_lm_eval.py').read_text()}")
    path.chmod(0o755)
    return path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    return twelve_sums(tmp_path)


def twelve_sums(folder: Path) -> Path:
    """Twelve sums, of which our server gets the last wrong."""
    rows = [{"question": f"What is {i} + 2?", "answer": str(i + 2)} for i in range(11)]
    rows.append({"question": "What is 1 + 1?", "answer": "3"})
    path = folder / "sums.jsonl"
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def ask(server: Answering, python: Path, tmp_path: Path, tasks: object, **more: Any) -> Any:
    request = EvaluateRequest(
        tasks=str(tasks),
        **{"endpoint_url": server.url, **more},
        python=str(python),
        campaigns_dir=str(tmp_path / "runs"),
    )
    return evaluate(request, lambda text: None)


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """One evaluation, which no test changes, and its result."""
    folder = tmp_path_factory.mktemp("evaluated")
    with answering() as made:
        result = ask(made, fake_python(folder), folder, twelve_sums(folder), chat=True)
    return the_run(folder), result


@pytest.fixture
def run_copy(evaluated: tuple[Path, Any], tmp_path: Path) -> Path:
    return Path(shutil.copytree(evaluated[0], tmp_path / evaluated[0].name))


def the_run(tmp_path: Path) -> Path:
    (found,) = filter(Path.is_dir, (tmp_path / "runs").iterdir())
    return found


def test_eleven_of_twelve_right_is_what_the_run_says_and_what_verify_finds_again(evaluated: tuple[Path, Any]) -> None:
    run, result = evaluated
    told = json.loads((run / "evaluation.json").read_text())
    (row,) = told["tasks"]
    assert (row["n"], row["score"], row["scored_by"]) == (12, pytest.approx(11 / 12), "equality")
    assert 0.6 < row["lower"] < row["score"] < row["upper"] < 1.0
    assert told["pins"]["sent"]["top_k"] == -1 and len(told["worker_sha256"]) == len(told["job_sha256"]) == 64
    assert (row["cut"], row["unknown"], row["of"], row["own_questions"], told["asked_by"]) == (0, 0, 12, True, None)
    assert told["served_model"] == "sums" and told["model"] == "unknown" and told["chat"] and told["gate"]["passed"]
    assert result.refusal is None and "91.7%" in result.text and f"--candidate {run.name}" in result.text
    samples = [json.loads(line) for line in (run / "raw/samples.jsonl").read_text().splitlines()]
    assert [s["scores"] for s in samples] == [[1.0]] * 11 + [[0.0]] and samples[11]["said"] == ["2"]
    problems, facts = check(run)
    assert problems == [] and facts["questions"] == 12
    assert "12 questions of 1 tasks" in text_of(run, look_at(run)) and "follow from the answers" in text_of(
        run, look_at(run)
    )


def rewritten(run: Path, name: str, data: bytes) -> None:
    """As somebody would who can hash: the file, the journal and the manifest all say the same."""
    folder = RunFolder(run)
    folder.write(name, data, producer="evaluate")
    folder.close()
    write_manifest(run, {})


def test_a_score_that_was_changed_is_found_even_where_everything_was_hashed_again(run_copy: Path) -> None:
    run = run_copy
    samples = (run / "raw/samples.jsonl").read_bytes()
    told = json.loads((run / "evaluation.json").read_text())
    rewritten(run, "raw/samples.jsonl", samples.replace(b"[0.0]", b"[1.0]"))
    found = check(run)[0]
    assert any("score is 0.9166" in p for p in found) and any("not what its answers give" in p for p in found)
    told["tasks"][0] |= {"score": 1.0, "lower": 0.7353515, "upper": 1.0}
    rewritten(run, "evaluation.json", json.dumps(told).encode())
    assert any("not what its answers give" in p for p in check(run)[0])
    rewritten(run, "raw/samples.jsonl", samples)
    assert any("score is 1.0, the samples give 0.9166" in p for p in check(run)[0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n": 13}, "n is 13"), ({"questions_sha256": "0" * 64}, "questions_sha256"), ({"task": "other"}, "not those of the samples"),
        ({"scored_by": "me"}, "scored by 'me'"), ({"upper": None}, "upper is None"),
    ],
)  # fmt: skip
def test_every_number_of_the_record_is_computed_again(run_copy: Path, change: dict[str, Any], said: str) -> None:
    told = json.loads((run_copy / "evaluation.json").read_text())
    told["tasks"][0] |= change
    (run_copy / "evaluation.json").write_text(json.dumps(told))
    problems, _ = verify_evaluation.look(run_copy)
    assert len(problems) >= 1 and said in problems[0]


@pytest.mark.parametrize(
    ("name", "data"),
    [("evaluation.json", b"[]"), ("raw/samples.jsonl", b"\xff{"), ("evaluation.json", b'{"schema": 1}'), ("evaluation.json", b"{")],
)  # fmt: skip
def test_a_damaged_evaluation_is_a_line_and_no_crash(run_copy: Path, name: str, data: bytes) -> None:
    (run_copy / name).write_bytes(data)
    found = check(run_copy)[0]
    assert len(found) >= 2 and any("sha256" in p for p in found)


def test_a_task_without_data_is_said_the_others_still_run_and_the_exit_tells(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    result = ask(server, python, tmp_path, f"mmlu_pro,{questions}")
    assert isinstance(result.refusal, BrokeMidway) and result.refusal.exit_code == 3
    assert "1 of 2 tasks gave no score: mmlu_pro" in result.refusal.message
    assert [t["task"] for t in result.data["tasks"]] == ["sums"] and check(the_run(tmp_path))[0] == []
    assert "no score: mmlu_pro: its data cannot be reached from here -- next: --data mmlu_pro=FILE" in result.text


@pytest.mark.slow
def test_repetition_is_no_score_of_the_model_and_the_control_says_whose_fault_it_is(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    def broken(prompt: str, *, chat: bool) -> str:
        return "is is is is is is is is is is"

    good = server.answer
    server.answer = broken
    alone = ask(server, python, tmp_path, questions, name="alone")
    assert alone.refusal.exit_code == 1 and "12 of 12 answers are empty or one word" in alone.refusal.message
    assert "unknown" in alone.refusal.message and "--control" in alone.refusal.next
    with answering() as control:
        control.answer = good
        result = ask(server, python, tmp_path, questions, control=control.url, name="model")
        assert result.data["gate"]["blame"] == "model" and result.data["control"]["tasks"][0]["score"] > 0.9
        asked = [body for path, body, _ in control.seen]
        assert len(asked) == 12 and [b["prompt"] for b in asked] == [b["prompt"] for _, b, _ in server.seen[-12:]]
        control.answer = broken
        result = ask(server, python, tmp_path, questions, control=control.url, name="gate")
    assert result.data["gate"]["blame"] == "gate" and "not the model" in result.refusal.message
    for run in filter(Path.is_dir, (tmp_path / "runs").iterdir()):
        assert check(run)[0] == []
    gone = ask(server, python, tmp_path, questions, control="http://127.0.0.1:9", name="gone")
    assert gone.data["gate"]["blame"] == "unknown" and "127.0.0.1" in json.dumps(gone.data["control"])


def test_a_changed_score_of_the_control_is_found(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    server.answer = lambda prompt, *, chat: ""
    with answering() as control:
        ask(server, python, tmp_path, questions, control=control.url)
    run = the_run(tmp_path)
    path = run / "raw/control_samples.jsonl"
    path.write_bytes(path.read_bytes().replace(b"[1.0]", b"[0.0]", 1))
    assert any("evaluation.json control: sums: score" in p for p in verify_evaluation.look(run)[0])


def test_our_own_credentials_are_in_no_file_of_the_run(
    server: Answering, python: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    server.answer = lambda prompt, *, chat: f"your key is {secret}"
    ask(server, python, tmp_path, questions)
    seen = json.loads((python.parent / "seen.json").read_text())
    assert seen["env"]["OPENAI_API_KEY"] == secret and secret not in " ".join(seen["argv"])
    for path in the_run(tmp_path).rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes()


def test_with_data_that_is_here_no_hub_and_no_proxy_is_known_to_the_tool(
    server: Answering, python: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTPS_PROXY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "http://somewhere.invalid")
    ask(server, python, tmp_path, questions)
    env = json.loads((python.parent / "seen.json").read_text())["env"]
    assert env["HF_HUB_OFFLINE"] == env["HF_DATASETS_OFFLINE"] == "1"
    assert not {"HTTPS_PROXY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY"} & env.keys() and str(Path.home()) != env["HOME"]


@pytest.mark.slow
def test_a_model_folder_is_served_for_as_long_as_it_takes(python: Path, questions: Path, tmp_path: Path) -> None:
    request = EvaluateRequest(
        tasks=str(questions), model="mock", engine="mock", engine_flags="--osl 4", python=str(python),
        campaigns_dir=str(tmp_path / "runs"),
    )  # fmt: skip
    said: list[str] = []
    result = evaluate(request, said.append)
    assert result.data["engine"]["name"] == "mock" and result.data["endpoint"] == "served for this run"
    assert any("mock is ready" in line for line in said)
    assert not [c for c in commands() if f"--model {result.data['served_model']} --osl 4" in c]


@pytest.mark.parametrize(("behaviour", "said"), [("crash", "No module named 'datasets'"), ("hang", "printed nothing")])
def test_a_tool_that_dies_or_hangs_is_a_clear_error_and_the_run_is_marked(
    server: Answering, python: Path, questions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behaviour: str, said: str
) -> None:  # fmt: skip
    (python.parent / "behaviour").write_text(behaviour)
    monkeypatch.setattr("profile_and_optimize.evals.lm_eval.TRIES", 1)
    # A hang is cut short; a crash has the time that a start takes.
    stall_s = 0.5 if behaviour == "hang" else 60.0
    monkeypatch.setattr("profile_and_optimize.evals.lm_eval.LmEval.__init__.__defaults__", ((), stall_s))
    with pytest.raises(BrokeMidway, match=said):
        ask(server, python, tmp_path, questions, timeout_s=0.5)
    run = the_run(tmp_path)
    assert not (run / "evaluation.json").exists() and b'"kind":"failed"' in (run / "journal.jsonl").read_bytes()
    assert check(run)[0] != []


def test_what_was_asked_before_the_tool_died_is_kept(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    (python.parent / "behaviour").write_text("die")
    other = tmp_path / "other.jsonl"
    other.write_bytes(questions.read_bytes())
    result = ask(server, python, tmp_path, f"{questions},{other}")
    assert [t["task"] for t in result.data["tasks"]] == ["sums"] and result.data["failed"][0]["task"] == "other"
    assert "MemoryError: no memory left" in result.refusal.message


@pytest.mark.slow
def test_an_instruct_model_without_its_template_is_warned_of(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    server.name = "acme/small-it"
    bare = ask(server, python, tmp_path, questions, name="bare")
    assert any("add --chat" in w and "repeat itself" in w for w in bare.warnings)
    assert ask(server, python, tmp_path, questions, chat=True, name="chat").warnings == ()
    assert ask(server, python, tmp_path, "demo", limit=4, name="own-format").warnings == ()


def test_a_tokenizer_with_a_template_and_a_name_tell_an_instruct_model(tmp_path: Path) -> None:
    for name, wanted in (("gemma-4-it", True), ("Llama-Instruct", True), ("iterate", False), ("base", False)):
        (tmp_path / name).mkdir()
        assert bool(instruct(str(tmp_path / name))) is wanted, name
    (tmp_path / "base/tokenizer_config.json").write_text('{"chat_template": "{{ x }}"}')
    assert "chat template" in instruct(str(tmp_path / "base"))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--tasks", "demo"], "who is asked"), (["--tasks", "demo", "--model", "m", "--endpoint-url", "http://x"], "who is asked"),
        (["--tasks", "demo", "--endpoint-url", "ftp://x"], "is not a URL"),
        (["--tasks", "demo", "--endpoint-url", "http://169.254.169.254"], "metadata"),
        (["--tasks", "demo", "--endpoint-url", "http://127.0.0.1:9", "--samples", "2", "--temperature", "0"], "one sample"),
        (["--tasks", "demo", "--model", "no-such-folder"], "no such folder"),
        (["--endpoint-url", "http://127.0.0.1:9"], "tasks"), (["--tasks", "demo", "--limit", "0", "--model", "m"], "--limit"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_refused_with_exit_2(
    python: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    code = pao(["evaluate", *argv, "--python", str(python), "--campaigns-dir", str(tmp_path / "runs")])
    assert code == 2 and said in capsys.readouterr().err


def test_an_endpoint_that_is_not_there_exits_2(python: Path, tmp_path: Path, questions: Path) -> None:
    argv = ["evaluate", "--tasks", str(questions), "--endpoint-url", "http://127.0.0.1:9", "--python", str(python)]
    assert pao([*argv, "--campaigns-dir", str(tmp_path / "runs")]) == 2
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.slow
def test_a_kill_leaves_nothing_running(server: Answering, python: Path, questions: Path, tmp_path: Path) -> None:
    (python.parent / "behaviour").write_text("hang")
    argv = [
        sys.executable,
        "-m",
        "profile_and_optimize.cli.main",
        "evaluate",
        "--tasks",
        str(questions),
        "--endpoint-url",
        server.url,
    ]
    child = subprocess.Popen(
        [*argv, "--python", str(python), "--campaigns-dir", str(tmp_path / "runs")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    seen = python.parent / "seen.json"
    _until(seen.exists)
    os.kill(child.pid, 9)
    child.wait()
    _until(lambda: not [c for c in commands() if str(python) in c])


def _until(done: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not done() and time.monotonic() < end:
        time.sleep(0.05)
    assert done()


def test_clusters_of_a_file_are_kept_beside_its_answers(server: Answering, python: Path, tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"question": f"What is {i} + 2?", "answer": str(i + 2), "cluster": f"pair {i // 2}"} for i in range(4)]
    path.write_text("".join(json.dumps(r) + "\n" for r in [*rows, {"question": "What is 9 + 2?", "answer": "11"}]))
    ask(server, python, tmp_path, path)
    run = the_run(tmp_path)
    samples = [json.loads(line) for line in (run / "raw/samples.jsonl").read_text().splitlines()]
    assert [s.get("cluster") for s in samples] == ["pair 0", "pair 0", "pair 1", "pair 1", None]
    answers = [json.loads(line) for line in (run / "raw/answers.jsonl").read_text().splitlines()]
    assert [a["question"] for a in answers] == [f"What is {i} + 2?" for i in (0, 1, 2, 3, 9)]
    assert check(run)[0] == []
    rewritten(run, "raw/answers.jsonl", (run / "raw/answers.jsonl").read_bytes().split(b"\n", 1)[1])
    assert any("is missing" in p for p in check(run)[0])


def test_a_cluster_field_for_files_of_questions_alone_is_refused(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    with pytest.raises(WrongUse, match="name their clusters themselves"):
        ask(server, python, tmp_path, questions, cluster_field="passage")


def test_a_cut_answer_is_neither_right_nor_wrong_and_a_limit_says_what_it_took(
    server: Answering, python: Path, questions: Path, tmp_path: Path
) -> None:
    """Of the first eight sums two are cut, and the other six are right."""
    server.finish = lambda said: "length" if said in ("2", "3") else "stop"
    result = ask(server, python, tmp_path, questions, limit=8)
    (row,) = result.data["tasks"]
    assert (row["n"], row["cut"], row["unknown"], row["score"], row["of"]) == (8, 2, 2, 1.0, 12)
    assert "asked: sums: the first 8 of 12 questions, in the order of its data" in result.text
    assert "2 (2 unknown)" in result.text and any("neither right nor wrong" in w for w in result.warnings)
    assert check(the_run(tmp_path))[0] == []


def test_a_folder_whose_generation_config_cannot_be_read_is_refused_before_a_server_starts(
    python: Path, questions: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/generation_config.json").write_text("{")
    with pytest.raises(WrongUse, match="not JSON"):
        request = EvaluateRequest(
            tasks=str(questions), model=str(tmp_path / "model"), engine="mock", python=str(python), campaigns_dir=str(tmp_path / "runs"),
        )  # fmt: skip
        evaluate(request, lambda text: None)
    assert list((tmp_path / "runs").iterdir()) == []


@pytest.mark.slow
def test_a_folder_is_asked_by_its_own_template_and_generation_config(
    python: Path, questions: Path, tmp_path: Path
) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "model/generation_config.json").write_text('{"temperature": 0.6}')
    request = EvaluateRequest(
        tasks=str(questions), model=str(tmp_path / "model"), engine="mock", python=str(python), campaigns_dir=str(tmp_path / "runs"),
    )  # fmt: skip
    told = evaluate(request, lambda text: None).data["asked_by"]
    assert told["templates"] == {"default": "{{ messages }}"} and told["generation"] == {"temperature": 0.6}
    assert check(the_run(tmp_path))[0] == []
