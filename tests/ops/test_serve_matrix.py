"""Every backend is tried once; what broke shows its own error, what answers nonsense is found by the others' answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from profile_and_optimize.analysis.matrix import CAVEATS, coherence, lines_of, repeats, right
from profile_and_optimize.campaign.world import World
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.workload import Point, Workload
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.kernels import kernels_in
from profile_and_optimize.engines.smoke import Answer
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.ops import serve_matrix
from profile_and_optimize.ops.serve_matrix import ServeMatrixRequest, api_of, known_gaps, publish
from profile_and_optimize.ops.verify import check
from profile_and_optimize.ops.verify_matrix import derived
from profile_and_optimize.optimize.backends import Backend, Offered, find_backends, only, table
from profile_and_optimize.optimize.levers import Facts
from profile_and_optimize.optimize.matrix import KNOWN, Wanted, try_all
from profile_and_optimize.testing.fakes import FakeClient, FakeEngine, FakeMachine, fake_world

CPU = Facts(cores=2, cpu=True, compiler=True, gpus=0, moe=False)
B200 = Facts(cores=64, cpu=False, compiler=True, gpus=1, sm=100, moe=True)
TWO = (Point(Workload("matrix", 16, 8), 1, 4), Point(Workload("matrix", 16, 8), 4, 8))
SUMS = {q.question: q.answer for q in KNOWN}


def wanted(*names: str) -> Wanted:
    here = tuple(Backend(n, f"kernels of {n}", flags=("--kernels", n)) for n in names)
    gpu = (Backend("big", "needs more"), "needs a GPU")
    return Wanted("m", "model", "unknown", "nvfp4", {"fake": Offered(here, (gpu,))}, TWO, KNOWN, seed=1)


def world(engine: FakeEngine, said: Mapping[str, str], client: FakeClient | None = None) -> World:
    """`said` by backend instead of the right answers."""

    def ask(url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16) -> Answer:
        backend = url.split("fake-")[1].split("/")[0]
        return Answer(said.get(backend, SUMS.get(prompt, "")), len(prompt.split()) + 4, 1)

    return replace(fake_world(engine, client), ask=ask)


def made(tmp_path: Path, w: Wanted, around: World) -> dict[str, Any]:
    path = tmp_path / "20261121T100000Z-m"
    folder = RunFolder(path)
    try_all(folder, w, around)
    folder.close()
    publish(path)
    assert check(path)[0] == []
    return dict(json.loads((path / "serve_matrix.json").read_text()))


def test_one_that_fails_is_a_debug_target_with_its_own_error_and_the_others_are_tried(tmp_path: Path) -> None:
    engine = FakeEngine({"fake-fast": 5.0}, broken={"fake-bad": "ModuleNotFoundError: No module named 'pytest'"})
    result = made(tmp_path, wanted("bad", "slow", "fast"), world(engine, {}))
    bad, slow, fast = result["rows"]
    assert (bad["status"], bad["why"]) == ("debug", "ModuleNotFoundError: No module named 'pytest'")
    assert bad["sweep"] == [] and bad["right"] is None and bad["start_s"] is None
    assert [r["status"] for r in (slow, fast)] == ["serves", "serves"]
    assert [p["concurrency"] for p in fast["sweep"]] == [1, 4] and fast["right"] == fast["asked"] == 4
    assert fast["sweep"][0]["tpot_ms_p50"] == pytest.approx(5.0, rel=0.1)
    assert slow["sweep"][0]["tpot_ms_p50"] == pytest.approx(10.0, rel=0.1)
    assert fast["sweep"][1]["requests"] == {"asked": 8, "completed": 8, "failed": 0}
    text = "\n".join(lines_of(result))
    assert "DEBUG TARGET" in text and "blocked" not in text and "No module named 'pytest'" in text
    assert "fake big: needs a GPU" in text and all(caveat in text for caveat in CAVEATS)
    assert "verdict" not in result and result["caveats"] == list(CAVEATS)


def test_one_that_answers_nonsense_is_told_by_the_answers_of_another(tmp_path: Path) -> None:
    result = made(tmp_path, wanted("good", "bad"), world(FakeEngine(), {"bad": "is is is is is is"}))
    good, bad = result["rows"]
    assert (good["status"], bad["status"]) == ("serves", "incoherent")
    assert (
        bad["why"] == "0 of 4 known questions right where another backend has 4" and bad["said"] == "is is is is is is"
    )


def test_one_that_completes_no_request_is_a_debug_target(tmp_path: Path) -> None:
    result = made(tmp_path, wanted("a"), world(FakeEngine(), {}, FakeClient(error_every=1)))
    row = result["rows"][0]
    assert row["status"] == "debug" and row["why"].startswith("no request completed at concurrency 1: HTTP 500")
    assert len(row["sweep"]) == 1 and row["sweep"][0]["tpot_ms_p50"] is None


def test_failed_requests_are_counted(tmp_path: Path) -> None:
    result = made(tmp_path, wanted("a"), world(FakeEngine(), {}, FakeClient(error_every=4)))
    row = result["rows"][0]
    assert row["status"] == "serves" and [p["requests"]["failed"] for p in row["sweep"]] == [1, 2]


def test_rows_of_the_same_kernels_and_a_loud_machine_are_said(tmp_path: Path) -> None:
    class Logging(FakeEngine):
        def start(self, spec: ServeSpec) -> Server:
            spec.log.write_text("Using MarlinNvFp4LinearKernel for NVFP4 GEMM\n")
            return replace(super().start(spec), log=spec.log)

    loud = fake_world(Logging(), machine=FakeMachine(foreign=(1.5,)))
    result = made(tmp_path, wanted("a", "b"), replace(loud, ask=world(FakeEngine(), {}).ask))
    a, b = result["rows"]
    assert a["kernels"] == b["kernels"] == ["MarlinNvFp4LinearKernel"]
    assert (a["same_kernels_as"], b["same_kernels_as"]) == (None, "fake-a")
    text = "\n".join(lines_of(result))
    assert "the kernels of fake-a: what differs between the two is noise" in text
    assert "machine not quiet: 1.50 cores used by other processes" in text


def test_a_backend_that_was_not_taken_is_a_finding_of_its_layers_derived_from_the_log(tmp_path: Path) -> None:
    class Vllm(FakeEngine):
        def version(self) -> dict[str, str]:
            return {**super().version(), "engine_version": "0.32.0"}

        def start(self, spec: ServeSpec) -> Server:
            spec.log.write_text(
                "INFO Initializing a V1 LLM engine (v0.32.0) with config: m, quantization=modelopt_fp4, kv_cache_dtype=fp8_e4m3\n"
                "INFO Using MarlinNvFp4LinearKernel for NVFP4 GEMM\nINFO Starting vLLM server on http://127.0.0.1:1\n"
            )
            return replace(super().start(spec), log=spec.log)

    here = (Backend("cutlass-fp4", "CUTLASS", flags=("--linear-backend", "cutlass")),)
    w = replace(wanted(), offered={"vllm": Offered(here, ())})

    def ask(url: str, model: str, prompt: str, *, api: str = "chat", max_tokens: int = 16) -> Answer:
        return Answer(SUMS.get(prompt, ""), len(prompt.split()) + 4, 1)

    row = made(tmp_path, w, replace(fake_world(Vllm()), engines={"vllm": Vllm()}, ask=ask))["rows"][0]
    linear = next(x for x in row["layers"] if x["group"] == "linear")
    assert (linear["asked"], linear["observed"]) == ("--linear-backend cutlass", "MarlinNvFp4LinearKernel")
    assert linear["line"]["log"] == "cells/vllm-cutlass-fp4/raw/log-matrix.txt" and linear["line"]["number"] == 2
    (finding,) = row["kernel_findings"]
    assert finding["effect"] is None and finding["says"] == (
        "vllm-cutlass-fp4: linear: asked for --linear-backend cutlass, runs MarlinNvFp4LinearKernel"
    )
    run = tmp_path / "20261121T100000Z-m"
    assert "finding: vllm-cutlass-fp4: linear: asked for" in (run / "serve_matrix.txt").read_text()
    log = run / "cells/vllm-cutlass-fp4/raw/log-matrix.txt"
    log.write_text(log.read_text().replace("Marlin", "Cutlass"))
    assert any("serve_matrix.json: not what the records give" in p for p in check(run)[0])


def test_a_matrix_from_before_the_layers_is_derived_as_it_was_written(tmp_path: Path) -> None:
    made(tmp_path, wanted("a"), world(FakeEngine(), {}))
    asked = tmp_path / "20261121T100000Z-m/matrix.json"
    asked.write_text(asked.read_text().replace('"schema": 2', '"schema": 1'))
    result, problems = derived(tmp_path / "20261121T100000Z-m")
    assert result["schema"] == 1 and problems == []
    assert not {"layers", "kernel_findings"} & set(result["rows"][0])


def test_a_changed_table_answer_or_record_does_not_verify(tmp_path: Path) -> None:
    made(tmp_path, wanted("a"), world(FakeEngine(), {}))
    run = tmp_path / "20261121T100000Z-m"
    table_file = run / "serve_matrix.json"
    table_file.write_text(table_file.read_text().replace('"asked": 4,', '"asked": 3,', 1))
    assert any("serve_matrix.json" in p for p in check(run)[0])
    publish(run)
    assert check(run)[0] == []
    seen = run / "cells/fake-a/raw/seen.json"
    seen.write_text(seen.read_text().replace('"said": "20"', '"said": "21"'))
    assert any("seen.json" in p for p in check(run)[0]) and any("not what the records give" in p for p in check(run)[0])


@pytest.mark.parametrize(("said", "best", "call"), [
    (("4", "8"), 2, "serves"), (("it is 4.", "9"), 2, "serves"), (("4.5", "1.8"), 2, "incoherent"), (("40", "18"), 2, "incoherent"),
    (("I do not know", "no"), 0, "coherence unknown"), (("the the the the the the", "8 8"), 0, "incoherent"),
])  # fmt: skip
def test_coherence_is_measured_by_the_best_of_the_matrix(said: tuple[str, str], best: int, call: str) -> None:
    answers = [{"said": s, "expected": e} for s, e in zip(said, ("4", "8" if best else "x"), strict=True)]
    assert coherence(answers, best)[0] == call
    assert right(answers) <= 2 and not repeats("one two three four five six")


def test_the_kernels_that_a_server_names_are_read_and_so_is_one_it_did_not_take() -> None:
    log = (
        "INFO 11-21 [linear.py:1240] Using MarlinNvFp4LinearKernel for NVFP4 GEMM\n"
        "INFO Selected CPUInt8ScaledMMLinearKernel for CompressedTensorsW8A8Int8\nINFO Using FLASHINFER_CUTLASS NvFp4 MoE backend out of\n"
        "WARNING 11-21 [linear.py:1] --linear-backend=cutlass has no kernel for this linear layer type; using automatic selection.\n"
    )
    found = kernels_in(log)
    assert found.named == ("MarlinNvFp4LinearKernel", "CPUInt8ScaledMMLinearKernel", "FLASHINFER_CUTLASS")
    assert found.fell_back.startswith("--linear-backend=cutlass has no kernel")
    assert kernels_in("nothing").named == () and kernels_in("").fell_back == ""


def test_tables_say_what_is_for_which_checkpoint_and_what_it_needs() -> None:
    here = [b.id for b in find_backends("vllm", "nvfp4", B200, None).here]
    assert {"auto", "marlin", "cutlass-fp4", "flashinfer-cutlass", "moe-marlin", "moe-flashinfer-trtllm"} <= set(here)
    assert "machete" not in here and "b12x-b12x" not in here
    cpu = find_backends("vllm", "nvfp4", CPU, None)
    assert [b.id for b in cpu.here] == ["auto", "emulation"]
    assert dict((b.id, why) for b, why in cpu.skipped)["marlin"] == "needs a GPU"
    assert dict((b.id, why) for b, why in cpu.skipped)["machete"].startswith("needs a checkpoint in w4a16")
    old = find_backends("vllm", "nvfp4", B200, frozenset({"--moe-backend"}))
    assert "the installed version has no --linear-backend" in {why for _, why in old.skipped}
    assert [b.id for b in find_backends("sglang", "unknown", B200, None).here] == ["auto"]
    assert [b.id for b in table("transformers")] == ["auto"]
    with pytest.raises(WrongUse, match="marlin: needs a GPU"):
        only("marlin", {"vllm": cpu})
    assert [b.id for b in only("vllm:emulation", {"vllm": cpu})["vllm"].here] == ["emulation"]


def test_known_gaps_are_those_of_the_ranks_that_the_flags_ask_for(tmp_path: Path) -> None:
    """768 is a multiple of 64 at each of 4 ranks and not of 8 (96); whole experts at each rank are as wide as they were."""
    told = {"model_type": "qwen3_moe", "num_experts": 8, "moe_intermediate_size": 768, "hidden_act": "silu"}
    (tmp_path / "config.json").write_text(json.dumps(told))

    def gaps(*flags: str) -> tuple[str, ...]:
        return known_gaps(str(tmp_path), "nvfp4", {"vllm": "cuda"}, flags)

    assert not gaps() and not gaps("--tensor-parallel-size", "4")
    assert all(
        "96 at each of 8 ranks" in g and "pao pad_experts --tp 8 makes them 1024 wide" in g for g in gaps("-tp", "8")
    )
    assert len(gaps("--tensor-parallel-size=8")) == 2 and not gaps("-tp", "8", "--enable-expert-parallel")


def test_a_model_without_a_chat_template_is_asked_for_completions(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")
    assert api_of(str(tmp_path)) == "completions" and api_of("owner/name") == "chat"
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}"}')
    assert api_of(str(tmp_path)) == "chat"


@pytest.mark.parametrize(("options", "what"), [
    (["--concurrency", "1,x"], "numbers"), (["--concurrency", "4,4"], "different"), (["--engines", "nothing"], "unknown engine"),
    (["--requests", "2"], "at least 8 are needed"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_before_anything_starts(
    options: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["serve_matrix", "--model", "mock", "--engines", "mock", "--dry-run", "--campaigns-dir", str(tmp_path)]
    assert pao([*base, *options]) == 2
    assert what in capsys.readouterr().err and list(tmp_path.iterdir()) == []


def test_it_asks_before_it_starts_servers_and_a_dry_run_starts_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["serve_matrix", "--model", "mock", "--engines", "mock", "--campaigns-dir", str(tmp_path)]
    assert pao(base) == 2 and "submits-jobs" in capsys.readouterr().err
    assert pao([*base, "--dry-run"]) == 0
    assert "mock-auto:" in capsys.readouterr().out and list(tmp_path.iterdir()) == []


def test_the_whole_road_on_the_mock_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        "--concurrency",
        "2",
        "--requests",
        "4",
        "--osl",
        "8",
        "--name",
        "road",
        "--campaigns-dir",
        str(tmp_path),
    ]
    ack = "--i-understand-this-submits-jobs"
    # The mock answers nobody's question, so nothing serves coherently, and the verb says so with its exit code.
    assert pao(["serve_matrix", "--model", "mock", "--engines", "mock", *options, ack]) == 1
    run = next(p for p in tmp_path.iterdir() if p.is_dir())
    assert check(run)[0] == [] and "mock-auto" in (run / "serve_matrix.txt").read_text()
    assert pao(["verify", str(run)]) == 0 and "requests re-read" in capsys.readouterr().out


def test_a_request_is_what_the_reference_says() -> None:
    assert (
        ServeMatrixRequest(model="m").concurrency == "1,4,16"
        and serve_matrix.OP.mcp_name == "perf_tune_report_serve_matrix"
    )
