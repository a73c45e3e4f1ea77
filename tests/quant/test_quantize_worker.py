"""The quantizing worker without torch: what it refuses, what it keeps over a kill, and the files it sets right."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from small import safetensors, worker_job, write_base

from profile_and_optimize.quant.pao_ptq import work
from profile_and_optimize.quant.pao_ptq.__main__ import STEPS, broken, main
from profile_and_optimize.quant.pao_ptq.answers import reference_rows
from profile_and_optimize.quant.pao_ptq.exporting import file_tensor_names
from profile_and_optimize.quant.pao_ptq.files import read_json, worker_sha256, write_json
from profile_and_optimize.quant.pao_ptq.headers import header_of, rename_tensors
from profile_and_optimize.quant.pao_ptq.job import job_of
from profile_and_optimize.quant.pao_ptq.loading import normalize_tied
from profile_and_optimize.quant.pao_ptq.names import cleaned, excluded
from profile_and_optimize.quant.pao_ptq.samples import batches_of


def job_file(space: Path, **differs: Any) -> Path:
    """A job of a small base in `space`, with its samples beside it; `differs` lays over it."""
    base = space / "base"
    if not base.exists():
        write_base(base)
    file = space / "job.json"
    file.write_text(json.dumps(worker_job(space, **differs)))
    return file


def told(file: Path, capsys: pytest.CaptureFixture[str], step: str = "quantize") -> tuple[int, dict[str, str]]:
    """Exit status and the error in the last line of stderr."""
    status = main([step, str(file)])
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("PAO-ERROR ")
    return status, json.loads(last.removeprefix("PAO-ERROR "))


def change_config(base: Path, **over: Any) -> None:
    config = json.loads((base / "config.json").read_text()) | over
    (base / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "quantized": (lambda b: change_config(b, quantization_config={"quant_method": "fp8"}), r"quantized already \(fp8\)"),
    "quantized within": (
        lambda b: change_config(b, text_config={"quantization_config": {"quant_method": "awq"}}), r"quantized already \(awq\)",
    ),
    "by ModelOpt": (lambda b: (b / "hf_quant_config.json").write_text("{}"), "quantized already"),
    "no architecture": (lambda b: change_config(b, architectures=None), "names no architectures"),
    "no tokenizer": (lambda b: (b / "tokenizer.json").unlink(), "no tokenizer"),
    "pickled weights": (lambda b: (b / "model.safetensors").rename(b / "pytorch_model.bin"), "neither model.safetensors nor"),
    "its own code": (lambda b: change_config(b, auto_map={"AutoModelForCausalLM": "m.M"}), "its own Python code"),
    "no folder": (lambda b: (b / "config.json").unlink(), "not a model folder"),
    "torn config": (lambda b: (b / "config.json").write_text("{"), "cannot be read as JSON"),
}  # fmt: skip


@pytest.mark.parametrize("what", SPOILED)
def test_a_base_that_cannot_be_quantized_is_refused_before_anything_is_loaded(
    what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = job_file(tmp_path)
    spoil, says = SPOILED[what]
    spoil(tmp_path / "base")
    status, error = told(file, capsys)
    assert status == 2 and error["code"] == "wrong_use" and error["where"] and error["next"]
    assert re.search(says, error["message"])
    assert not (tmp_path / "out.partial").exists() and "torch" not in sys.modules


@pytest.mark.parametrize(
    ("over", "says"),
    [
        ({"target": "nvfp9"}, "modelopt has no target 'nvfp9'; it has nvfp4, "),
        ({"backend": "awq"}, "no backend 'awq'; there are modelopt, llm-compressor"),
    ],
)
def test_a_pair_that_there_is_not_says_what_there_is(
    over: dict[str, str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, error = told(job_file(tmp_path, **over), capsys)
    assert status == 2 and says in error["message"] and error["next"]


def with_samples(space: Path) -> Path:
    """The folder of a job that has its calibration samples."""
    partial = space / "out.partial"
    (partial / "work").mkdir(parents=True)
    (partial / "work/calib.jsonl").write_text('{"input_ids": [1, 2]}\n')
    return partial


def test_a_folder_begun_for_another_job_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    partial = with_samples(tmp_path)
    status, error = told(job_file(tmp_path), capsys)
    assert status == 2 and error["where"].endswith("heldout.jsonl") and "is not there" in error["message"]
    state = json.loads((partial / "STATE.json").read_text())
    assert state["failed"] == {"stage": "quantize", **error} and state["job_digest"] == "d1"
    assert (partial / "NOT_A_CHECKPOINT.txt").exists() and not (tmp_path / "out").exists()
    before = (partial / "STATE.json").read_bytes()
    status, error = told(job_file(tmp_path, job_digest="d2"), capsys)
    assert status == 2 and "begun for another job" in error["message"]
    assert (partial / "STATE.json").read_bytes() == before


@pytest.mark.parametrize("step", STEPS)
def test_no_step_notes_its_failure_in_the_folder_of_another_job(
    step: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    partial = with_samples(tmp_path)
    told(job_file(tmp_path), capsys)
    before = (partial / "STATE.json").read_bytes()
    status, _ = told(job_file(tmp_path, job_digest="d2"), capsys, step)
    assert status != 0 and (partial / "STATE.json").read_bytes() == before
    status, _ = told(job_file(tmp_path), capsys, "guard")
    assert status == 2 and json.loads((partial / "STATE.json").read_text())["failed"]["stage"] == "guard"


def test_a_job_for_other_workers_is_refused_with_both_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = "0123456789abcdef" * 4
    for step in STEPS:
        status, error = told(job_file(tmp_path, worker_sha256=other), capsys, step)
        assert (status, error["code"], error["where"]) == (2, "wrong_use", "JOB.json worker_sha256")
        assert other[:12] in error["message"] and worker_sha256()[:12] in error["message"]
    assert not (tmp_path / "out.partial").exists()


def test_what_is_finished_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = job_file(tmp_path)
    told(file, capsys)
    path = tmp_path / "out.partial/STATE.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"done": ["calibrate", "quantize"]}))
    assert main(["quantize", str(file)]) == 0 and "nothing to do" in capsys.readouterr().out


def test_another_thing_under_the_name_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").mkdir()
    status, error = told(job_file(tmp_path), capsys)
    assert status == 1 and "something else under this name" in error["message"]


def test_no_room_is_said_before_the_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    status, error = told(job_file(tmp_path), capsys)
    assert status == 3 and "are needed and 0.0 GB are free" in error["message"] and "--out" in error["next"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "x"), RuntimeError("I/O error: No space left on device (os error 28)")]
)
def test_a_disk_that_fills_up_midway_is_named(error: Exception, tmp_path: Path) -> None:
    stop = broken(error, job_of(worker_job(tmp_path)))
    assert (stop.code, stop.message) == ("broke", "the disk is full") and "it resumes" in stop.next


def test_a_pattern_leaves_out_a_module_and_what_is_inside_it() -> None:
    patterns = ["lm_head", "*mlp.gate", "*visual"]
    out = ("lm_head", "model.layers.0.mlp.gate", "model.visual", "model.visual.blocks.0.attn.qkv")
    inside = ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.experts", "model.lm_head_norm")
    assert [excluded(name, patterns) for name in (*out, *inside)] == [True] * 4 + [False] * 3


def test_samples_of_one_length_go_together_and_nothing_is_padded() -> None:
    samples = [[1, 2], [3, 4], [5], [6, 7], [8, 9], [10, 11]]
    assert batches_of(samples, 2) == [[[1, 2], [3, 4]], [[5]], [[6, 7], [8, 9]], [[10, 11]]]
    assert batches_of(samples, 1) == [[s] for s in samples]


def test_the_reference_holds_whole_text_or_the_first_rows_that_fit() -> None:
    assert reference_rows([[0] * 256] * 16, 718) == 4096
    assert reference_rows([[0] * 256] * 16, 151_936) == 512_000_000 // (4 * 151_936) == 842


def test_a_marker_left_in_the_list_of_excludes_is_taken_out() -> None:
    config = {
        "exclude_modules": ["lm_head.\x00backbone.pt_name_sentinel", "backbone.layers.0.mixer.gate"],
        "group_size": 16,
    }
    assert cleaned(config) == {"exclude_modules": ["lm_head", "backbone.layers.0.mixer.gate"], "group_size": 16}


def test_tensors_are_renamed_without_touching_their_bytes(tmp_path: Path) -> None:
    stem = "model.layers.0.block_sparse_moe.experts"
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model.safetensors").write_bytes(safetensors({f"{stem}.0.w1.weight": (4, 4)}))
    made = tmp_path / "export"
    made.mkdir()
    shapes = {f"{stem}.0.{n}.weight_packed": (4, 4) for n in ("gate_proj", "up_proj", "down_proj")}
    (made / "model.safetensors").write_bytes(safetensors(shapes | {"norm.weight.\x00backbone.pt_name_sentinel": (3,)}))
    index = {"metadata": {}, "weight_map": dict.fromkeys(shapes, "model.safetensors")}
    (made / "model.safetensors.index.json").write_text(json.dumps(index))
    before, start = header_of(made / "model.safetensors")
    data = (made / "model.safetensors").read_bytes()[start:]

    rename_tensors(made, file_tensor_names(tmp_path / "base", made))

    after, start = header_of(made / "model.safetensors")
    assert (made / "model.safetensors").read_bytes()[start:] == data and start % 8 == 0
    words = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}
    wanted = {f"{stem}.0.{words[n.split('.')[-2]]}.weight_packed": before[n] for n in shapes}
    assert after == wanted | {"norm.weight": before["norm.weight.\x00backbone.pt_name_sentinel"]}
    assert set(json.loads((made / "model.safetensors.index.json").read_text())["weight_map"]) == set(wanted)


def test_experts_called_by_plain_words_keep_them(tmp_path: Path) -> None:
    for folder in ("base", "export"):
        (tmp_path / folder).mkdir()
        shapes = {"model.layers.0.mlp.experts.0.gate_proj.weight": (4, 4)}
        (tmp_path / folder / "model.safetensors").write_bytes(safetensors(shapes))
    assert file_tensor_names(tmp_path / "base", tmp_path / "export") == {}


def test_old_lists_of_tied_weights_become_a_mapping() -> None:
    class Old:
        _tied_weights_keys = ["lm_head.weight"]  # noqa: RUF012

    class Made(Old):
        pass

    normalize_tied(Made)
    assert Made._tied_weights_keys == {"lm_head.weight": "model.embed_tokens.weight"}  # type: ignore[comparison-overlap]


def test_a_file_written_whole_is_never_seen_half(tmp_path: Path) -> None:
    path = tmp_path / "STATE.json"
    write_json(path, {"done": []})
    write_json(path, {"done": ["quantize"]})
    assert read_json(path) == {"done": ["quantize"]} and os.listdir(tmp_path) == ["STATE.json"]
