"""Every mixture of the table, built by the library itself: padded, loaded, and asked beside its source."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.quant import pad_answers
from profile_and_optimize.quant.pad import pad_experts, write
from profile_and_optimize.quant.pad_check import compare, tensors_in
from profile_and_optimize.quant.pad_plan import planned
from profile_and_optimize.toolenv.find import ToolEnv, find

HERE = Path(__file__).parent
KINDS = (
    "afmoe", "cohere2_moe", "deepseek_v2", "deepseek_v3", "dots1", "ernie4_5_moe", "flex_olmo", "gemma4_text", "glm4_moe",
    "granitemoe", "granitemoeshared", "hunyuan_v1_moe", "lfm2_moe", "llama4_text", "minimax", "minimax_m2", "mixtral",
    "nemotron_h", "olmoe", "phimoe", "qwen2_moe", "qwen3_5_moe", "qwen3_moe", "qwen3_next", "qwen3_vl_moe", "solar_open",
)  # fmt: skip
REFUSED = ("gpt_oss", "jamba")
pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.fixture(scope="module")
def ptq() -> ToolEnv:
    env = find("ptq")
    if env is None:
        pytest.skip("the ptq tool environment is not installed: pao tools install ptq")
    return env


def child(env: ToolEnv, *argv: str) -> str:
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run([str(env.python), *argv], env=settings, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def models(ptq: ToolEnv, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixtures")
    told = child(ptq, str(HERE / "make_mixtures.py"), ",".join((*KINDS, *REFUSED)), str(folder))
    assert "not made" not in told, told
    return folder


def _job(base: Path, padded: Path) -> str:
    job = padded.with_name(f"{padded.name}.json")
    job.write_text(json.dumps({
        "base": str(base), "padded": str(padded), "key": "moe_intermediate_size", "rows": 2, "tokens": 24,
        "out": str(padded.with_name(f"{padded.name}.told")),
    }))  # fmt: skip
    return str(job)


def _spoiled(copy: Path, to: Path) -> Path:
    """One sign of one kept weight of one expert turned in each row of its matrix."""
    shutil.copytree(copy, to)
    file = to / "model.safetensors"
    data = bytearray(file.read_bytes())
    for tensor in (t for n, t in tensors_in({"": file}).items() if n.endswith("w2.weight")):
        for row in range(tensor.shape[0]):
            data[tensor.at + row * tensor.shape[1] * 2 + 1] ^= 0x80
    file.write_bytes(data)
    return to


def _narrow(model: Path, to: Path) -> Path:
    """A config widened without its shared experts: routed ones in the file are as narrow too."""
    shutil.copytree(model, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps(config | {"moe_intermediate_size": 128}))
    return to


def test_every_mixture_of_the_table_answers_as_before(models: Path, ptq: ToolEnv, tmp_path: Path) -> None:
    """96 wide to 128: each copy loads at its new width and its logits are the source's, but for the order of sums."""
    jobs = []
    for kind in KINDS:
        plan, copy = planned(models / kind, 1), tmp_path / kind
        write(plan, copy, lambda line: None)
        assert compare(plan.tensors, tensors_in({n: copy / n for n in plan.files}), plan.stored).grown == len(
            plan.growths
        )
        jobs.append(_job(models / kind, copy))
    jobs += [
        _job(models / "mixtral", _spoiled(tmp_path / "mixtral", tmp_path / "spoiled")),
        _job(models / "glm4_moe", _narrow(models / "glm4_moe", tmp_path / "narrow")),
    ]
    child(ptq, str(HERE / "answers_all.py"), pad_answers.__file__, *jobs)
    assert "more than the order of sums" in json.loads((tmp_path / "spoiled.told").read_text())["refused"]
    assert "it depends on moe_intermediate_size too" in json.loads((tmp_path / "narrow.told").read_text())["refused"]
    told = {kind: json.loads((tmp_path / f"{kind}.told").read_text()) for kind in KINDS}
    assert not {k: t["refused"] for k, t in told.items() if "refused" in t}
    assert all(t["largest_difference"] <= 1e-5 * t["largest_logit"] and t["largest_logit"] > 0.1 for t in told.values())


@pytest.mark.parametrize("kind", REFUSED)
def test_layouts_that_are_not_padded_are_refused_before_the_work(models: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(WrongUse, match=f"the experts of {kind} are not padded"):
        pad_experts(models / kind, tmp_path / "out", 1, lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_base_that_answers_no_numbers_gets_no_copy(models: Path, tmp_path: Path) -> None:
    """One NaN in one norm of a mixtral: every logit is a NaN, which is not "no difference"."""
    model = tmp_path / "nan"
    shutil.copytree(models / "mixtral", model)
    file = model / "model.safetensors"
    norm = tensors_in({"": file})["model.norm.weight"]
    data = bytearray(file.read_bytes())
    data[norm.at : norm.at + 2] = b"\xc0\x7f"
    file.write_bytes(data)
    with pytest.raises(GateRefused, match="the base answers what is not a number"):
        pad_experts(model, tmp_path / "out", 1, lambda line: None)
    assert not (tmp_path / "out").exists()
