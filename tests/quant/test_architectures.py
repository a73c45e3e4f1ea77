"""Which architectures go through: the committed table, and a few of its rows made anew."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import make_model
import pytest
from small import QUESTIONS

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant import bundle
from profile_and_optimize.quant.families import family_of
from profile_and_optimize.quant.job import Calibration, Heldout, Job, job_bytes, new_job
from profile_and_optimize.quant.pao_ptq.checks_folder import differences
from profile_and_optimize.quant.pao_ptq.exporting import copy_sidecars, in_bf16
from profile_and_optimize.quant.pao_ptq.headers import header_of
from profile_and_optimize.quant.pao_ptq.names import is_buffer, key, stacked_name
from profile_and_optimize.quant.pao_ptq.scope import refuse_split
from profile_and_optimize.quant.pao_ptq.stop import Stop
from profile_and_optimize.toolenv.find import find
from profile_and_optimize.workloads.recorded import digest_file

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
TEXT = Calibration("questions", str(QUESTIONS), digest_file(QUESTIONS), samples=24, seq_len=64)


def the_bench() -> Any:
    spec = importlib.util.spec_from_file_location("architectures", ROOT / "bench/architectures.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["architectures"] = module  # where its dataclass looks its own types up
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_result_file_says() -> None:
    bench = the_bench()
    told = json.loads(bench.RESULTS.read_text())
    page = bench.PAGE.read_text()
    assert page.split(bench.BEGIN)[1].split(bench.END)[0].strip() == bench.section(told).strip()


def test_every_architecture_is_made_or_refused_before_the_work_with_the_reason() -> None:
    rows = json.loads(the_bench().RESULTS.read_text())["rows"]
    assert {(r["arch"], r["backend"]) for r in rows} == {
        (a, b) for a in make_model.EVERY for b in ("modelopt", "llm-compressor")
    }
    assert {r["outcome"] for r in rows} == {"made", "refused"}
    assert all(r["reason"] for r in rows if r["outcome"] == "refused")
    for backend in ("modelopt", "llm-compressor"):
        assert len({r["arch"] for r in rows if r["backend"] == backend and r["outcome"] == "made"}) >= 25


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("model.language_model.layers.3.mlp.up_proj", "layers.3.mlp.up_proj"),
        ("layers.3.mlp.up_proj", "layers.3.mlp.up_proj"),
        ("transformer.h.0.attn.c_attn", "h.0.attn.c_attn"),
        ("transformer.blocks.1.ffn.up_proj", "blocks.1.ffn.up_proj"),
        ("model.embed_tokens", "embed_tokens"),
        ("model.visual.blocks.0.attn.qkv", "vision blocks.0.attn.qkv"),
    ],
)
def test_a_module_of_one_layer_is_not_that_of_another(name: str, wanted: str) -> None:
    """Layers are called h and blocks too: taken by the last word alone, the ranges of all layers would be one."""
    assert key(name) == wanted


def test_stacks_of_experts_go_by_one_name() -> None:
    stem = "model.layers.1.block_sparse_moe"
    assert stacked_name(f"{stem}.input_linear.weight") == f"{stem}.experts.gate_up_proj"
    assert stacked_name(f"{stem}.output_linear.weight") == f"{stem}.experts.down_proj"
    assert stacked_name("model.layers.1.shared_mlp.input_linear.weight").endswith("shared_mlp.input_linear.weight")


@pytest.mark.parametrize(
    ("name", "buffer"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", True),
        ("transformer.rotary_pos_emb.inv_freq", True),
        ("transformer.h.0.attn.masked_bias", True),
        ("transformer.h.0.attn.c_attn.bias", False),
        ("model.layers.0.self_attn.q_proj.bias", False),
    ],
)
def test_what_a_loader_computes_itself_is_no_weight(name: str, buffer: bool) -> None:
    assert is_buffer(name) is buffer


def test_a_part_that_says_no_dtype_says_none_in_the_export_either() -> None:
    """Gemma 4's vision part says null; what says a type says bfloat16, whatever it was."""
    silent = {"dtype": "float16", "vision_config": {"dtype": None}}
    assert in_bf16(silent) == {"dtype": "bfloat16", "vision_config": {"dtype": None}}
    assert differences(silent, in_bf16(silent)) == []
    assert differences(silent, {"dtype": "bfloat16", "vision_config": {"dtype": "float16"}}) != []
    assert differences({"dtype": None}, {"dtype": None}) != [] and differences({}, {"dtype": "bfloat16"}) == []


def test_what_an_engine_runs_as_one_is_not_left_out_in_part() -> None:
    """Two matrices of Qwen3-Next are two in vLLM as well; what Qwen3.5 keeps apart is one there."""
    next_ = ["layers.0.linear_attn.in_proj_qkvz", "layers.0.linear_attn.in_proj_ba"]
    refuse_split(next_, ["*in_proj_ba"])
    with pytest.raises(Stop, match="in_proj_b, in_proj_a"):
        refuse_split(["layers.0.linear_attn.in_proj_b", "layers.0.linear_attn.in_proj_a"], ["*in_proj_a"])


def test_a_part_of_a_fused_matrix_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(WrongUse, match=r"q_proj, k_proj, v_proj of model\.layers\.0\.self_attn as one matrix"):
        new_job(make_model.DEMO, tmp_path / "out", backend="modelopt", target="nvfp4", calibration=TEXT,
                exclude=["*q_proj"])  # fmt: skip


def test_every_sidecar_travels_and_no_weights_do(tmp_path: Path) -> None:
    base, out = tmp_path / "base", tmp_path / "out"
    travel = (
        "spiece.model", "qwen.tiktoken", "vocab.json", "merges.txt", "vocab.txt", "chat_template.jinja",
        "additional_chat_templates/tool_use.jinja", "generation_config.json", "modeling_x.py", "preprocessor_config.json",
    )  # fmt: skip
    stay = ("consolidated.safetensors", "pytorch_model.bin", "original/model.pth")
    for name in (*travel, *stay, "config.json", "model.safetensors"):
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(name.encode())
    out.mkdir()
    assert sorted(copy_sidecars(base, out)) == sorted(stay)
    assert {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()} == set(travel)
    assert all((out / n).read_bytes() == n.encode() for n in travel)


@pytest.mark.engine
@pytest.mark.slow
def test_a_few_are_made_anew(tmp_path: Path) -> None:
    """LayerNorms with files beside that no loader wants; stacks and left out experts that libraries rename; an unlisted router."""
    env = find("ptq")
    if env is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

    def child(*argv: object) -> str:
        done = subprocess.run([env.python, *argv], env=settings, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    models = tmp_path / "models"
    child(HERE / "make_model.py", f"opt,granitemoe,phimoe,{make_model.CHOOSER}", models)
    shutil.copy(models / "opt/model.safetensors", models / "opt/consolidated.safetensors")
    (models / "opt/generation_config.json").write_text('{"do_sample": false, "temperature": 0.6, "eos_token_id": 717}')
    jobs = {
        "opt": job_of(models / "opt", tmp_path / "made", backend="modelopt", target="fp8"),
        "granitemoe": job_of(models / "granitemoe", tmp_path / "made", backend="llm-compressor", target="int8"),
        "phimoe": job_of(
            models / "phimoe", tmp_path / "made", backend="llm-compressor", target="w4a16", exclude=["*layers.0.*"]
        ),
    }
    dense = family_of({"model_type": "llama"})
    jobs[make_model.CHOOSER] = replace(
        jobs["opt"], base=models / make_model.CHOOSER, out=tmp_path / "made" / make_model.CHOOSER, target="nvfp4", family=dense,
        exclude=dense.exclude, trust_remote_code=True,
    )  # fmt: skip
    for name, job in jobs.items():
        (tmp_path / f"{name}.json").write_bytes(job_bytes(job))
    told = child(HERE / "road.py", Path(bundle.__file__).parent, *(tmp_path / f"{name}.json" for name in jobs))
    for line in (json.loads(text) for text in told.splitlines() if text.startswith('{"job"')):
        assert line["statuses"] == [0, 0, 0, 0], line
    table = header_of(jobs[make_model.CHOOSER].out / "model.safetensors")[0]
    assert table["model.layers.0.mlp.chooser.weight"]["dtype"] == "BF16"
    assert table["model.layers.0.mlp.experts.0.up_proj.weight"]["dtype"] == "U8"
    assert (jobs["opt"].out / "generation_config.json").read_bytes() == (
        models / "opt/generation_config.json"
    ).read_bytes()


def job_of(model: Path, folder: Path, **asked: Any) -> Job:
    folder.mkdir(exist_ok=True)
    return new_job(model, folder / model.name, calibration=TEXT, heldout=Heldout(8, 64), **asked)
