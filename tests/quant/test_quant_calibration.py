"""From a corpus to samples: counts, order, what is held out, and what is refused. The worker itself, in our own Python."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small import QUESTIONS, small_job
from tokenizers import Tokenizer

from profile_and_optimize.quant.job import Calibration, Heldout, Job
from profile_and_optimize.quant.pao_ptq import calibrate
from profile_and_optimize.quant.pao_ptq.__main__ import main
from profile_and_optimize.quant.pao_ptq.spelling import Speller
from profile_and_optimize.quant.pao_ptq.stop import Stop
from profile_and_optimize.workloads.recorded import digest_file


def corpus(file: Path, samples: int = 4, seq_len: int = 64, chat: bool = False) -> Calibration:
    return Calibration(file.name, str(file), digest_file(file), samples, seq_len, chat)


def lines(file: Path, entries: list[Any]) -> Path:
    file.write_text("".join(json.dumps(e) + "\n" for e in entries))
    return file


def texts(count: int, words: int = 120) -> list[dict[str, str]]:
    return [{"text": f"Document {i} says: " + " ".join(f"{i}w{n}" for n in range(words))} for i in range(count)]


def work(job: Job, capfd: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    """Runs the worker; the error it told, or its record."""
    file = job.out.parent / "job.json"
    file.write_text(json.dumps(job.to_json()))
    assert main(["calibrate", str(file)]) == code
    said = capfd.readouterr()
    if code:
        found: dict[str, Any] = json.loads(said.err.strip().splitlines()[-1].removeprefix("PAO-ERROR "))
        return found
    assert said.out.splitlines()[-1].startswith("PAO ")
    record: dict[str, Any] = json.loads((job.partial / "work/calibration.json").read_text())
    return record


def samples(job: Job, name: str) -> list[list[int]]:
    return [json.loads(line)["input_ids"] for line in (job.partial / f"work/{name}.jsonl").read_text().splitlines()]


def test_samples_are_of_one_length_and_counted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", texts(20))))
    told = work(job, capfd)
    calib, held = samples(job, "calib"), samples(job, "heldout")
    assert [len(s) for s in calib] == [64] * 4 and [len(s) for s in held] == [32] * 2
    assert (told["samples"], told["tokens"], told["heldout_samples"], told["heldout_tokens"]) == (4, 256, 2, 64)
    assert (
        told["lengths"] == {"min": 64, "median": 64, "max": 64}
        and told["source"] == "c.jsonl"
        and told["chat"] is False
    )
    assert told["sha256"] == digest_file(job.partial / "work/calib.jsonl")
    state = json.loads((job.partial / "STATE.json").read_text())
    assert (
        state["done"] == ["calibrate"] and state["failed"] is None and (job.partial / "NOT_A_CHECKPOINT.txt").exists()
    )


def test_samples_are_the_text_as_it_stands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Twelve documents of the alphabet's letters: no sample holds a control token or a letter that its documents lack."""
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", texts(12)), 2, 32))
    work(job, capfd)
    tokenizer = Tokenizer.from_file(str(job.base / "tokenizer.json"))
    text = "".join(tokenizer.decode(s, skip_special_tokens=False) for s in samples(job, "calib"))
    assert "Document" in text and "<|" not in text


def test_no_document_gives_tokens_to_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Each document repeats a letter of its own; the letters of the two files do not meet."""
    entries = [{"text": letter * 400} for letter in "abcdefghijklmnop"]
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", entries), 8, 32), heldout=Heldout(4, 32))
    work(job, capfd)
    tokenizer = Tokenizer.from_file(str(job.base / "tokenizer.json"))
    letters = [set("".join(tokenizer.decode(s) for s in samples(job, name))) - {" "} for name in ("calib", "heldout")]
    assert letters[0] and letters[1] and not letters[0] & letters[1]


def test_equal_documents_count_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Otherwise the same text could be held out and calibrated on."""
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", texts(1) * 50), 1, 64))
    told = work(job, capfd, code=2)
    assert "0 samples of 64 tokens are there, 1 are asked" in told["message"]


def test_every_document_speaks_before_one_speaks_twice(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One long document and nine short ones: all of the short ones are among ten samples."""
    entries = [{"text": "long " * 5000}, *[{"text": f"short{n} " * 60} for n in range(9)]]
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", entries), 10, 64), heldout=Heldout(1, 16))
    told = work(job, capfd)
    assert told["documents"] >= 8


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = corpus(lines(tmp_path / "c.jsonl", texts(40)))
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        job = replace(small_job(tmp_path, calibration=text, seed=seed), out=tmp_path / name)
        found.append(work(job, capfd)["sha256"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("c.txt", "\n".join(f"A line of text, number {n}, and an empty one.\n" for n in range(900))),
        ("c.json", json.dumps(texts(12))),
        ("c.jsonl", "".join(json.dumps({"article": t["text"]}) + "\n" for t in texts(12))),
        ("q.jsonl", QUESTIONS.read_text()),
        ("m.jsonl", "".join(json.dumps({"messages": [{"role": "user", "content": t["text"]}]}) + "\n" for t in texts(12))),
    ],
)  # fmt: skip
def test_the_shapes_a_corpus_may_have(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    assert work(small_job(tmp_path, calibration=corpus(tmp_path / name)), capfd)["samples"] == 4


def test_a_compressed_corpus_is_read(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.json.gz"
    file.write_bytes(gzip.compress("".join(json.dumps(t) + "\n" for t in texts(12)).encode()))
    assert work(small_job(tmp_path, calibration=corpus(file)), capfd)["samples"] == 4


def test_the_text_that_is_always_here_says_what_it_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told = work(small_job(tmp_path, calibration=Calibration("builtin", None, None, 4, 64)), capfd)
    assert told["source"].startswith("builtin: the standard library of Python 3.") and told["corpus_sha256"] is None


def test_samples_of_an_earlier_run_are_taken_as_they_are(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its held-out file beside it stays held out, so none of the samples is spent on that."""
    first = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", texts(20))))
    work(first, capfd)
    again = replace(first, calibration=corpus(first.partial / "work/calib.jsonl"), out=tmp_path / "again")
    work(again, capfd)
    assert sorted(samples(again, "calib")) == sorted(samples(first, "calib"))
    assert sorted(samples(again, "heldout")) == sorted(samples(first, "heldout"))


def test_too_little_text_says_how_much_there_is(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    job = small_job(tmp_path, calibration=corpus(lines(tmp_path / "c.jsonl", texts(4)), 512, 64))
    told = work(job, capfd, code=2)
    there = int(told["message"].split()[0])
    assert told["code"] == "wrong_use" and 0 < there < 512 and told["next"].endswith(f"--samples {there}")
    assert not (job.partial / "work/calib.jsonl").exists()
    fewer = replace(job, calibration=replace(job.calibration, samples=there), out=tmp_path / "fewer")
    assert work(fewer, capfd)["samples"] == there


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('{"text": "a"}\n{"tex', "no JSON"),
        ('{"words": "a"}\n', "no text in it (words)"),
        ("7\n", "no text in it (int)"),
        ('{"messages": [{"role": "user"}]}\n', "a message without role and content"),
        ("", "0 samples"),
        ('{"input_ids": [1, -1]}\n', "no text in it"),
        ('{"input_ids": [5, 99999' + ", 5" * 400 + "]}\n" + '{"input_ids": [5' + ", 6" * 400 + "]}\n", "token 99999 is beyond"),
    ],
)  # fmt: skip
def test_a_corpus_that_is_none_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], content: str, says: str
) -> None:
    (tmp_path / "c.jsonl").write_text(content)
    told = work(small_job(tmp_path, calibration=corpus(tmp_path / "c.jsonl", 1)), capfd, code=2)
    assert says in told["message"], told


def test_bytes_that_are_no_text_are_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.txt").write_bytes(b"\xff\xfe\x00")
    assert (
        "cannot be read" in work(small_job(tmp_path, calibration=corpus(tmp_path / "c.txt")), capfd, code=2)["message"]
    )


def test_a_folder_begun_for_another_job_is_refused_and_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    first = small_job(tmp_path)
    work(first, capfd)
    before = (first.partial / "STATE.json").read_bytes()
    told = work(replace(first, seed=7), capfd, code=2)
    assert "begun for another job" in told["message"] and (first.partial / "STATE.json").read_bytes() == before


def test_a_job_that_ended_before_its_first_sample_stands_in_nobodys_way(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = lines(tmp_path / "c.jsonl", texts(6))
    work(small_job(tmp_path, calibration=corpus(file, 512)), capfd, code=2)
    assert work(small_job(tmp_path, calibration=corpus(file, 2)), capfd)["samples"] == 2


def test_a_finished_calibration_is_not_made_again_and_a_damaged_one_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = small_job(tmp_path)
    told = work(job, capfd)
    file = job.partial / "work/calib.jsonl"
    with monkeypatch.context() as m:
        m.setattr(calibrate, "prepared", lambda job: pytest.fail("made again"))
        assert work(job, capfd) == told
    file.write_text(file.read_text().replace("1", "2", 1))
    assert work(job, capfd) == told and digest_file(file) == told["sha256"]


def test_a_full_disk_is_said_and_leaves_no_result(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = calibrate.write_whole

    def full(path: Path, data: str) -> None:
        if path.name == "calib.jsonl":
            raise OSError(28, "No space left on device", str(path))
        whole(path, data)

    monkeypatch.setattr(calibrate, "write_whole", full)
    job = small_job(tmp_path)
    told = work(job, capfd, code=3)
    assert told["code"] == "broke" and told["message"] == "the disk is full"
    assert not job.out.exists() and not (job.partial / "work/calibration.json").exists()


def test_plain_text_has_no_turns_for_a_template() -> None:
    speller = Speller(
        lambda texts: [[1] for _ in texts], lambda said: "".join(f"<{role}>{text}" for role, text in said)
    )
    with pytest.raises(Stop, match="no turns for the chat template"):
        speller.text("plain")
    assert speller.text((("user", "a"), ("assistant", "b"))) == "<user>a<assistant>b"
    assert Speller(lambda texts: [], None).text((("user", "a"), ("assistant", "b"))) == "a\nb"
