"""pao quantize and pao calibration_prepare, as a person types them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "quant"))
from small import DEMO, QUESTIONS, Player, write_base

from profile_and_optimize.cli.main import run as pao

ACK = "--i-understand-this-submits-jobs"
FEW = ("--samples", "4", "--seq-len", "64")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFREPORT_CAMPAIGNS_DIR", raising=False)
    monkeypatch.setenv("PAO_DATA_DIR", str(tmp_path / "data"))
    yield tmp_path


def told(capsys: pytest.CaptureFixture[str], argv: list[str]) -> dict[str, Any]:
    pao([*argv, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_the_whole_road_with_its_end_as_a_person_reads_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player, base = Player(here / "env"), write_base(here / "base")
    argv = ["quantize", "--model", str(base), "--target", "nvfp4", *FEW, "--python", str(player.python), ACK]
    assert pao(argv) == 0  # on the text that is always here
    text = capsys.readouterr()
    assert str(here / "checkpoints/base-nvfp4-modelopt") in text.out
    assert "4.50 bits a quantized weight" in text.out and "KL 0.00300 as read back" in text.out
    assert "checks         1 of 1 passed: no-zero-scale" in text.out and "pao quant_compare --base" in text.out
    assert "share unknown" in text.out  # what a record does not say is not made up
    assert "calibrated on the text of Python's standard library" in text.err
    again = told(capsys, argv)
    assert again["ok"] and again["result"]["reused"] is True and again["result"]["checkpoint"]["coverage"] is True
    assert player.ran.count("quantize") == 1


def test_a_dry_run_shows_every_command_and_writes_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    player, base = Player(here / "env"), write_base(here / "base")
    before = sorted(here.rglob("*"))
    found = told(
        capsys, ["quantize", "--model", str(base), "--target", "nvfp4", "--python", str(player.python), "--dry-run"]
    )
    assert [c["step"] for c in found["result"]["commands"]] == ["calibrate", "quantize", "roundtrip", "guard"]
    assert found["result"]["commands"][0]["argv"][0] == str(player.python)
    assert found["result"]["job"]["calibration"]["samples"] == 512 and sorted(here.rglob("*")) == before


def test_without_the_acknowledgement_nothing_starts_but_the_bundle_can_be_written(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_base(here / "base")
    argv = ["quantize", "--model", str(base), "--target", "nvfp4"]
    assert pao(argv) == 2 and ACK in capsys.readouterr().err
    found = told(capsys, [*argv, "--render-only"])
    assert {"pao_ptq", "00-calib-pvc.yaml", "02-quantize-job.yaml", "README.md"} <= set(found["result"]["files"])
    assert (here / "checkpoints/base-nvfp4-modelopt.bundle/quantize/run.sh").exists()
    assert not (here / "checkpoints/base-nvfp4-modelopt").exists()


def test_a_vendors_scope_and_more_patterns_reach_the_job(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(here / "base")
    (here / "vendor").mkdir()
    listed = {"quantization": {"exclude_modules": ["lm_head", "*self_attn*", "lm_head.\x00x"]}}
    (here / "vendor/hf_quant_config.json").write_text(json.dumps(listed))
    argv = ["quantize", "--model", str(base), "--target", "nvfp4", "--match-vendor", "vendor", "--render-only"]
    found = told(capsys, [*argv, "--exclude-pattern", "*down_proj, *up_proj"])
    assert found["result"]["job"]["exclude"] == ["lm_head", "*self_attn*", "*down_proj", "*up_proj"]
    assert any("names nothing" in w or "name nothing" in w for w in found["warnings"])


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--target", "w4a16_gptq"], "modelopt has no target 'w4a16_gptq'; it has nvfp4"),
        (["--target", "nvfp4", "--calib", "no-such"], "neither a file nor a data set known by name"),
        (["--target", "nvfp4", "--samples", "0"], "0 samples of 2048 tokens"),
        (["--target", "nvfp4", "--seq-len", "4096"], "the model takes 2048 tokens at most"),
        (["--target", "nvfp4", "--python", "no-such"], "not an executable file"),
        (["--target", "nvfp4", "--out", "base/q"], "must not contain one another"),
    ],
)
def test_what_cannot_be_asked_is_said(
    here: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    write_base(here / "base")
    assert pao(["quantize", "--model", "base", *options, ACK]) == 2
    assert says in capsys.readouterr().err
    assert sorted(p.name for p in here.iterdir()) == ["base"]


def test_a_gap_in_serving_is_known_before_the_work(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = write_base(
        here / "base", model_type="qwen3_moe", architectures=["Qwen3MoeForCausalLM"], num_experts=4, num_experts_per_tok=2,
        moe_intermediate_size=128,
    )  # fmt: skip
    found = told(capsys, ["quantize", "--model", str(base), "--target", "nvfp4", "--render-only"])
    assert any("there is no kernel for nvfp4 experts" in w and "vllm on cpu" in w for w in found["warnings"])
    assert not any("at each of" in w for w in found["warnings"])
    four = told(capsys, ["quantize", "--model", str(base), "--target", "nvfp4", "--tp", "4", "--render-only"])
    assert any(
        "32 at each of 4 ranks" in w and "pao pad_experts --tp 4 makes them 256 wide" in w for w in four["warnings"]
    )


def test_a_data_set_that_cannot_be_reached_is_said_with_what_to_do(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    write_base(here / "base")
    assert pao(["quantize", "--model", "base", "--target", "nvfp4", "--calib", "cnn_dailymail", ACK]) == 2
    said = capsys.readouterr().err
    assert "the data set cnn_dailymail cannot be fetched" in said and "--calib FILE.jsonl" in said


def test_a_chat_corpus_comes_with_the_reason_against_it(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_base(here / "base")
    argv = ["quantize", "--model", "base", "--target", "nvfp4", "--calib", str(QUESTIONS), "--chat", "--render-only"]
    assert any("skew their ranges" in w for w in told(capsys, argv)["warnings"])


# ---- calibration_prepare


def test_prepared_samples_are_counted_and_can_be_given_to_quantize(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["calibration_prepare", "--model", str(DEMO), "--calib", str(QUESTIONS), *FEW]
    assert pao(argv) == 0
    text = capsys.readouterr().out
    assert "4 samples, 256 tokens of" in text and "sha256 " in text and "held out" in text
    folder = here / "checkpoints/model-calibration"
    assert {p.name for p in folder.iterdir()} == {"calib.jsonl", "heldout.jsonl", "calibration.json"}
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]
    assert pao(argv) == 2 and "under this name already" in capsys.readouterr().err
    player = Player(here / "env")
    given = ["--calib", str(folder / "calib.jsonl"), *FEW, "--python", str(player.python), ACK]
    found = told(capsys, ["quantize", "--model", str(DEMO), "--target", "nvfp4", *given])
    assert found["ok"] and found["result"]["calibration"]["samples"] == 4


def test_the_same_request_prepares_the_same_bytes(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["calibration_prepare", "--model", str(DEMO), "--calib", str(QUESTIONS), *FEW]
    made = [told(capsys, [*argv, "--out", name])["result"]["calibration"]["sha256"] for name in ("a", "b")]
    assert made[0] == made[1]


def test_too_little_text_leaves_nothing_under_the_name(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["calibration_prepare", "--model", str(DEMO), "--calib", str(QUESTIONS), "--out", "c"]) == 2
    said = capsys.readouterr().err
    assert "512 are asked" in said and not (here / "c").exists()
    assert pao(["calibration_prepare", "--model", str(DEMO), "--calib", str(QUESTIONS), *FEW, "--out", "c"]) == 0


def test_a_model_without_a_tokenizer_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_base(here / "base") / "tokenizer.json").unlink()
    assert pao(["calibration_prepare", "--model", "base"]) == 2
    assert "no tokenizer files" in capsys.readouterr().err


def test_without_the_environment_it_says_how_to_get_it(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAO_TOOLS_DIR", str(here / "none"))
    base = write_base(here / "base")
    assert pao(["quantize", "--model", str(base), "--target", "nvfp4", "--calib", str(QUESTIONS), *FEW, ACK]) == 2
    said = capsys.readouterr().err
    assert "the tool environment ptq is not installed" in said and "pao tools install ptq" in said
    assert sorted(p.name for p in here.iterdir()) == ["base"]
