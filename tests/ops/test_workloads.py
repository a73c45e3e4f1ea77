"""Suites on the command line and in campaign files: listed, refused where they do not fit, run one after another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.workloads_data import chats

from machine_help import bench_ended_well
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.prompts import Calibration, PromptMaker
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.base import Server
from profile_and_optimize.ops.bench import BenchRequest, prompts_seed
from profile_and_optimize.ops.config import CampaignConfig, fixed_by_config, plan_of
from profile_and_optimize.ops.fits import max_length, require_fit, unfit
from profile_and_optimize.workloads.draw import draw_prompts
from profile_and_optimize.workloads.suites import suite, suite_points

CELLS = [
    {"cell_id": "base", "role": "baseline"},
    {"cell_id": "again", "role": "aa"},
    {"cell_id": "other", "flags": {"seed": 3}},
]
FAST = ("--ttft-ms", "2", "--itl-ms", "0.2")


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFREPORT_CAMPAIGNS_DIR", raising=False)
    monkeypatch.setenv("PAO_DATA_DIR", str(tmp_path / "kept"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")


def ask(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, dict[str, Any]]:
    code = pao([*argv, "--json"])
    return code, json.loads(capsys.readouterr().out)


def config(**more: Any) -> CampaignConfig:
    return CampaignConfig(
        **{"name": "w", "model": "mock", "engine": "mock", "blocks": 2, "cells": CELLS, "seed": 5, **more}
    )


# pao workloads


def test_every_workload_is_listed_with_where_its_data_is(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, "workloads")
    listed = {w["name"]: w for s in said["result"]["suites"].values() for w in s["workloads"]}
    assert code == 0 and listed["sonnet"]["data"] == "the package's own verse" and listed["sonnet"]["data_here"] is True
    assert "cannot be reached" in listed["sharegpt"]["data"] and listed["sharegpt"]["data_here"] is False
    offline = ask(capsys, "workloads", "--suite", "canonical", "--offline")[1]["result"]["suites"]["canonical"][
        "workloads"
    ]
    assert next(w for w in offline if w["name"] == "sharegpt")["data_here"] is None


def test_what_is_too_long_for_a_model_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"max_position_embeddings": 2048}')
    _, said = ask(capsys, "workloads", "--suite", "canonical", "--model", str(tmp_path), "--offline")
    fits = {w["name"]: w["fits"] for w in said["result"]["suites"]["canonical"]["workloads"]}
    assert {n for n, f in fits.items() if not f} == {"aa-10k", "aa-100k", "code"}


# fits


@pytest.mark.parametrize(
    ("config_json", "flags", "length"),
    [
        ('{"max_position_embeddings": 2048}', (), 2048),
        ('{"max_position_embeddings": 2048}', ("--max-model-len", "1024"), 1024),
        ("{}", ("--max-model-len=16k",), 16_000),
        ("{}", ("--max_model_len", "16K"), 16_384),
        ("{}", ("--context-length", "4096"), 4096),
        ('{"max_position_embeddings": 2048}', ("--max-model-len", "auto"), None),
        ('{"max_position_embeddings": 2048, "rope_scaling": {"factor": 4}}', (), None),
        ('{"text_config": {"max_position_embeddings": 512}}', (), 512),
        ('{"max_position_embeddings": "many"}', (), None),
        ("[]", (), None),
        ("no json", (), None),
    ],
)
def test_a_models_length_is_its_flag_else_its_configs_else_unknown(
    config_json: str, flags: tuple[str, ...], length: int | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(config_json)
    assert max_length(str(tmp_path), flags) == length
    assert max_length("owner/name") is None


def test_a_workload_fits_up_to_its_last_token_and_the_refusal_names_those_that_do() -> None:
    demo = suite("demo")
    assert [w.name for w in unfit(demo, 783)] == ["demo-longest"] and not unfit(demo, 784) and not unfit(demo, None)
    with pytest.raises(WrongUse, match=r"too long for 783 tokens: demo-longest \(768 \+ 16 tokens\)") as e:
        require_fit(suite_points("demo"), 783, "m", take="--workloads")
    assert e.value.next.startswith("--workloads demo-chat,demo-long,demo-verse")


# campaign files


def test_a_campaign_file_names_workloads_of_any_suite_and_describes_its_own() -> None:
    plan = plan_of(
        config(workloads=[
            {"name": "demo-verse"}, {"name": "multi-turn", "requests": 32, "concurrencies": [4, 8]},
            {"name": "mine", "kind": "shared-prefix", "isl": 64, "osl": 8, "shared": 32, "cache": "prefixes"},
        ]), at=0.0,
    )  # fmt: skip
    assert [(p.key, p.requests) for p in plan.points] == [
        ("demo-verse.c8", 24), ("multi-turn.c4", 32), ("multi-turn.c8", 32), ("mine.c8", 32),
    ]  # fmt: skip
    assert plan.suite == "own" and plan.points[-1].workload.prefixes


def test_what_the_file_says_of_all_goes_before_the_suite_and_its_own_entry_before_both() -> None:
    plan = plan_of(
        config(suite="demo", concurrencies=[2], workloads=[{"name": "demo-code", "concurrencies": [3]}]), at=0.0
    )
    keys = [p.key for p in plan.points]
    assert (
        keys[0] == "demo-code.c3"
        and len(keys) == len(suite("demo"))
        and set(keys[1:]) == {f"{w.name}.c2" for w in suite("demo") if w.name != "demo-code"}
    )


@pytest.mark.parametrize(
    ("workload", "words"),
    [
        ({"name": "no-such"}, "no suite has a workload 'no-such'"),
        ({"name": "w", "isl": 8}, "no osl"),
        (
            {"name": "w", "isl": 64, "osl": 8, "kind": "multi-turn", "dataset": "own:conversations", "turns": 3},
            "declare it",
        ),
        ({"name": "w", "isl": 64, "osl": 8, "kind": "shared-prefix", "shared": 8, "cache": "cold"}, "cannot be cold"),
        ({"name": "w", "isl": 64, "osl": 8, "warm": True, "cache": "cold"}, "leave out one|warm, and cache"),
        ({"name": "w", "isl": 64, "osl": 8, "kind": "text", "dataset": "own:novel"}, "no text 'novel'"),
        (
            {"name": "w", "isl": 64, "osl": 8, "kind": "conversations", "dataset": "own:verse"},
            "no conversations 'verse'",
        ),
        ({"name": "w", "isl": 64, "osl": 8, "kind": "conversations", "dataset": "hub:none"}, "unknown data set 'none'"),
        ({"name": "w", "isl": 64, "osl": 8, "dataset": "nothing.jsonl"}, "cannot read: No such file"),
    ],
)
def test_workloads_that_cannot_be_are_refused_by_name(workload: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongUse, match=words):
        plan_of(config(workloads=[workload]), at=0.0)


def test_a_client_that_takes_one_length_of_answer_is_refused_before_it_starts() -> None:
    with pytest.raises(WrongUse, match="takes one osl for all prompts; demo-conversations, demo-random has many"):
        plan_of(config(suite="demo", client="vllm-bench"), at=0.0)
    assert plan_of(config(suite="demo-short", client="vllm-bench"), at=0.0).client == "vllm-bench"


def test_a_suite_too_long_for_the_model_is_refused_before_its_data_is_fetched(tmp_path: Path) -> None:
    model = Path(__file__).parents[2] / "demo/model"
    with pytest.raises(WrongUse, match=r"too long for 2048 tokens: aa-10k .*aa-100k.*code") as e:
        plan_of(config(suite="canonical", engine="vllm", model=str(model)), at=0.0)
    assert "aa-1k,sonnet,sharegpt,random" in e.value.next and not (tmp_path / "kept").exists()


@pytest.mark.slow
def test_a_file_of_ones_own_stands_for_a_data_set_and_the_run_knows_its_digest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chats(tmp_path / "chats.json", 300)
    asked = config(
        workloads=[{"name": "sharegpt", "requests": 8, "concurrencies": [2]}],
        data={"sharegpt": "chats.json"},
        common_flags={"ttft-ms": 1, "itl-ms": 0.2},
    )
    w = plan_of(asked, at=0.0).points[0].workload
    assert (w.dataset, w.file, len(w.sha256)) == ("chats.json", str(tmp_path / "chats.json"), 64)
    assert fixed_by_config(asked)["points"][0].workload.sha256 == ""
    Path("c.yaml").write_text(yaml.safe_dump(asked.model_dump(exclude_unset=True)))
    assert pao(["campaign_init", "--config", "c.yaml"]) == 0
    assert pao(["campaign_run", "w", "--i-understand-this-submits-jobs"]) == 0
    assert pao(["champion_select", "w"]) == 0 and pao(["report_render", "w"]) == 0
    Path("chats.json").unlink()
    capsys.readouterr()
    code, said = ask(capsys, "verify", "w")
    assert (code, said["result"]["problems"]) == (0, [])
    assert list(said["result"]["prompts"]["not_drawn_again"]) == ["sharegpt.c2"]


def test_without_the_hub_the_message_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.yaml").write_text(yaml.safe_dump(config(workloads=[{"name": "sharegpt"}]).model_dump(exclude_unset=True)))
    code, said = ask(capsys, "campaign_init", "--config", "c.yaml")
    assert (
        code == 2
        and "cannot be fetched" in said["error"]["message"]
        and "data: in a campaign file" in said["error"]["next"]
    )
    assert not Path("campaigns").exists()


# pao bench_all_workloads, pao bench --workload


@pytest.mark.parametrize("mock_server", [FAST], indirect=True)
def test_a_suite_leaves_a_result_for_each_workload_and_the_list_of_those_that_ran(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    names = "demo-verse,demo-conversations"
    argv = (
        "bench_all_workloads",
        "--endpoint-url",
        mock_server.url,
        "--workloads",
        names,
        "--concurrency",
        "2",
        "--requests",
        "6",
    )
    code, said = ask(capsys, *argv, "--out", "o", "--seed", "7")
    assert code == 0, said
    assert Path("o/workloads.txt").read_text() == "demo-verse\ndemo-conversations\n"
    result = json.loads(Path("o/demo-conversations.c2/result.json").read_text())
    assert (result["workload"], result["kind"], result["cache_mode"]) == ("demo-conversations", "conversations", "cold")
    assert result["osl_asked"] is None and 10 < result["osl_observed_mean"] < 96
    assert said["result"]["complete"] == ["demo-verse", "demo-conversations"] and said["result"]["failed"] == {}
    assert ask(capsys, *argv, "--out", "o")[0] == 2, "another run's results are not written over"


@pytest.mark.parametrize("mock_server", [(*FAST, "--error-every", "9")], indirect=True)
def test_a_workload_with_failed_requests_is_named_and_not_in_the_list(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ("bench_all_workloads", "--endpoint-url", mock_server.url, "--workloads", "demo-chat,demo-longest")
    code, said = ask(capsys, *argv, "--out", "o")
    assert code == 1 and "demo-chat.c8" in said["result"]["failed"] and "demo-chat.c8" in said["error"]["message"]
    assert "demo-chat" not in Path("o/workloads.txt").read_text().splitlines()


@pytest.mark.parametrize("mock_server", [FAST], indirect=True)
def test_what_cannot_be_run_is_refused_before_anything_is_sent(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("bench_all_workloads", "--endpoint-url", mock_server.url, "--out", "o")
    assert "'no-suite'" in ask(capsys, *there, "--suite", "no-suite")[1]["error"]["message"]
    assert "has no sonnet" in ask(capsys, *there, "--workloads", "sonnet")[1]["error"]["message"]
    assert "cannot be fetched" in ask(capsys, *there, "--suite", "canonical")[1]["error"]["message"]
    assert ask(capsys, "bench_all_workloads", "--endpoint-url", "http://127.0.0.1:9", "--out", "o")[0] == 2
    assert not Path("o").exists()


@pytest.mark.parametrize("mock_server", [FAST], indirect=True)
def test_bench_takes_one_workload_by_name_and_nothing_that_contradicts_it(
    mock_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    there = ("bench", mock_server.url, "--workload", "demo-code", "--concurrency", "2", "--requests", "6")
    code, said = ask(capsys, *there)
    assert bench_ended_well(code, said) and said["result"]["isl_observed_mean"] == pytest.approx(160, abs=2)
    assert said["result"]["source"] == "the package's own code"
    for more in (("--isl", "9"), ("--dataset", "f.jsonl")):
        assert ask(capsys, *there, *more)[0] == 2
    assert ask(capsys, "bench", mock_server.url, "--workload", "demo")[0] == 2
    assert ask(capsys, "bench", mock_server.url, "--data", "sharegpt=f")[0] == 2


def test_workloads_of_a_suite_share_no_beginning_whatever_the_seed() -> None:
    maker, met = PromptMaker(None, Calibration(0.0)), set()
    for w in suite("demo"):
        req = BenchRequest(url="http://127.0.0.1:9", workload=w.name, seed=5)
        met |= {p[:40] for p in draw_prompts(w, maker, 4, 8, prompts_seed(req, w, 5)).timed}
    assert len(met) == 8 * len(suite("demo"))


# pao champion_select


def test_an_expected_canonical_name_means_its_shape(run_copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = ask(capsys, "champion_select", str(run_copy), "--workloads-present", "aa,sonnet,short-chat")
    assert (
        code == 1 and "expected workloads aa, sonnet, evidence has long-in (random, 64/8)" in said["error"]["message"]
    )
