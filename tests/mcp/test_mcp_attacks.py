"""Hostile requests against the default policy: each opens something else than it seems to, and none is let in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp_help import CAMPAIGN

from profile_and_optimize.core.errors import GateRefused, PaoError, WrongUse
from profile_and_optimize.core.names import digest
from profile_and_optimize.evidence.bound import holding, require_unchanged
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.mcp import tools
from profile_and_optimize.mcp.job import main
from profile_and_optimize.mcp.policy import load_policy
from profile_and_optimize.mcp.tools import Admitted, admit
from profile_and_optimize.ops.base import all_ops, parse_request

HEAD = "arm\tengine\tflags\tenv\tlever\tpredicts\tpredicted\tcheckpoint\n"


@pytest.fixture
def trap(work: Path) -> Path:
    """A workspace with honest files, and with links that lead out of it."""
    secret = work.parent / "secret"
    secret.mkdir()
    for name in ("config.json", "tokenizer.json", "x.jsonl", "x.pdf", "t.jinja", "arms.tsv"):
        (secret / name).write_text("{}")
    (work / "m").mkdir()
    for name in ("config.json", "tokenizer.json"):
        (work / "m" / name).write_text("{}")
    (work / "linked").mkdir()
    (work / "linked/config.json").symlink_to(secret / "config.json")
    for name in ("out", "my dir", "a,b", "a=b", " lead", "lead ", "~", "per%2fcent", "file:"):
        (work / name).symlink_to(secret)
    (work / "q.jsonl").write_text('{"question": "2 + 2", "answer": "4"}\n')
    (work / "arms.tsv").write_text(HEAD + "base\tvllm\t--a 1\tX=2\tnone\t\t\t\n")
    (work / "loop").symlink_to("loop")
    return work


def tried(work: Path, verb: str, **values: Any) -> Admitted:
    return admit(load_policy(None, work), all_ops()[verb], values)


U = "http://127.0.0.1:1"
AB = {"model": "m", "flags": "--enforce-eager"}
OPEN = [
    ("bench", {"url": U, "workload": "w", "data": "w=my dir/x.jsonl"}),
    ("bench", {"url": U, "workload": "w", "data": "w=a,b/x.jsonl"}),
    ("bench", {"url": U, "workload": "w", "data": "w=a=b/x.jsonl"}),
    ("bench", {"url": U, "workload": "w", "data": "w= lead/x.jsonl"}),
    ("bench", {"url": U, "workload": "w", "data": "w=q.jsonl,v=/etc/passwd"}),
    ("bench", {"url": U, "dataset": "my dir/x.jsonl"}), ("bench", {"url": U, "dataset": " lead/x.jsonl"}),
    ("bench", {"url": U, "replay": "~/x.jsonl"}), ("bench", {"url": U, "replay": "~root/x.jsonl"}),
    ("bench", {"url": U, "replay": "per%2fcent/x.jsonl"}), ("bench", {"url": U, "replay": "m/../../secret/x.jsonl"}),
    ("bench", {"url": U, "replay": "file:///etc/passwd"}), ("bench", {"url": U, "replay": "file:/etc/passwd"}),
    ("bench", {"url": U, "replay": "%2fetc%2fpasswd"}), ("bench", {"url": U, "replay": "%252e%252e/secret/x.jsonl"}),
    ("bench", {"url": U, "tokenizer": "out"}), ("bench", {"url": U, "tokenizer": "linked"}), ("bench", {"url": U, "out": "out/new"}),
    ("bench", {"url": U, "out": "loop/new"}), ("bench", {"url": U, "out": "//etc/new"}), ("bench", {"url": U, "out": "/"}),
    ("mock", {"stamps": "/etc/x"}), ("mock", {"answers": "/etc/passwd"}), ("mock", {"stamps": "out/x"}),
    ("evaluate", {"endpoint_url": U, "tasks": " /etc/x.jsonl"}), ("evaluate", {"endpoint_url": U, "tasks": "demo, my dir/x.jsonl"}),
    ("evaluate", {"endpoint_url": U, "tasks": "demo", "control": "out"}), ("evaluate", {"endpoint_url": U, "tasks": "demo",
    "data": "t=out"}),
    ("evaluate", {"model": "m", "tasks": "demo", "engine_flags": '--x \'{"a": "\\u002fetc\\u002fpasswd"}\''}),
    ("evaluate", {"model": "m", "tasks": "demo", "engine_flags": '--x \'{"a": {"b": ["q", "my dir/t.jinja"]}}\''}),
    ("evaluate", {"model": "m", "tasks": "demo", "engine_python": " /usr/bin/python3"}),
    ("run_controlled_ab", {**AB, "flags": "--chat-template '/'etc/passwd"}), ("run_controlled_ab", {**AB,
    "flags": "--chat-template \\/etc/x"}),
    ("run_controlled_ab", {**AB, "flags": "--chat-template='my dir/t.jinja'"}), ("run_controlled_ab", {**AB, "flags": "--x=y=~/t"}),
    ("run_controlled_ab", {**AB, "env": "A=b:/etc/x"}), ("run_controlled_ab", {**AB, "env": "A='my dir/x'"}),
    ("run_controlled_ab", {**AB, "baseline_flags": "--x @/etc/args"}), ("run_controlled_ab", {**AB, "model": "linked"}),
    ("run_controlled_ab", {**AB, "python": "/usr/bin/python3"}), ("run_controlled_ab", {**AB, "python": "vllm=/usr/bin/python3"}),
    ("run_controlled_ab", {**AB, "python": " vllm=python3 "}), ("run_controlled_ab", {**AB, "questions": "my dir/x.jsonl"}),
    ("run_controlled_ab", {**AB, "campaigns_dir": "out"}), ("run_controlled_ab", {**AB, "model": "s3:/bucket"}),
    ("run_variant_ab", {"model": "m", "arms": "out/arms.tsv"}), ("lint", {"results": ("q.jsonl", "out")}),
    ("optimize", {"model": "m", "vendor": "out"}), ("optimize", {"model": "m", "ptq_python": "/usr/bin/python3"}),
    ("optimize", {"resume": "../secret"}), ("accuracy_gate", {"base": "out", "candidate": "x"}), ("verify", {"campaign": "x",
    "against": "out/x"}),
    ("quantize", {"model": "m", "target": "int8", "match_vendor": "linked"}), ("quantize", {"model": "m", "target": "int8",
    "calib": "out/x.jsonl"}),
    ("report_smoke", {"out": "out/x.pdf"}), ("tools", {"action": "list", "tools_dir": "/opt"}), ("import_variant_ab", {"campaign": "x",
    "bundle": "out"}),
    ("run_controlled_ab", {**AB, "env": "CXXFLAGS=-I/etc/x"}), ("run_controlled_ab", {**AB, "flags": "--x \\\\x2fetc/x"}),
    ("run_controlled_ab", {**AB, "flags": "--x ${HOME}/x"}), ("run_controlled_ab", {**AB, "flags": "--x !/etc/x"}),
    ("pad_experts", {"model": "m", "out": "~/padded"}), ("levers", {"python": "/usr/bin/python3"}),
]  # fmt: skip
HOSTS = (
    "10.0.0.1", "2130706433", "0x7f000001", "127.1", "0177.0.0.1", "127.0.0.1@10.0.0.1", "127.0.0.1:80@h", "localhost.evil.example",
    "[::ffff:10.0.0.1]",
    "[::1%25eth0]", "169.254.169.254", "metadata.google.internal.", "127.0.0.1\\@h", "127.0.0.1 .h", "ｌocalhost", "127。0。0。1",
    "localhost:99999",
    "localhost:0", "127.0.0.1#@h", "[::1]x", "0.0.0.0", "[::]", "127.0.0.1,h", "*", "",
)  # fmt: skip


@pytest.mark.parametrize(("verb", "values"), OPEN, ids=lambda v: v if isinstance(v, str) else json.dumps(v)[:80])
def test_what_opens_something_else_is_refused(trap: Path, verb: str, values: dict[str, Any]) -> None:
    before = sorted(trap.parent.rglob("*"))
    with pytest.raises(GateRefused) as caught:
        tried(trap, verb, **values)
    assert caught.value.next and "policy" in f"{caught.value.message} {caught.value.next}"
    assert sorted(trap.parent.rglob("*")) == before


@pytest.mark.parametrize("host", HOSTS)
def test_a_url_that_leads_elsewhere_is_refused_in_every_field_that_takes_one(trap: Path, host: str) -> None:
    url = f"http://{host}"
    campaign = CAMPAIGN.replace("role: baseline", f"role: baseline, url: {json.dumps(url)}", 1)
    (trap / "c.yaml").write_text(campaign)
    for verb, values in (
        ("bench", {"url": url}), ("ab", {"url_a": U, "url_b": url}), ("calibrate", {"url": url}), ("campaign_init", {"config": "c.yaml"}),
        ("evaluate", {"endpoint_url": url, "tasks": "demo"}), ("evaluate", {"endpoint_url": U, "tasks": "demo", "control": url}),
        ("bench_all_workloads", {"endpoint_url": url, "out": "new"}), ("run_controlled_ab", {**AB, "flags": f"--x '{url}'"}),
    ):  # fmt: skip
        if verb == "run_controlled_ab" and host in ("", "127.0.0.1,h", "127.0.0.1 .h"):
            continue  # in a list of flags these are no URL, and a URL of this machine
        with pytest.raises(PaoError):
            tried(trap, verb, **values)


@pytest.mark.parametrize("row", [
    "x\tvllm\t--chat-template 'my dir/t.jinja'\tA=1\tl\t\t\t", "x\tvllm\t--a 1\tA=/etc/x\tl\t\t\t", "x\tvllm\t--a 1\tA=1\tl\t\t\tout",
    "x\tvllm\t--a 1\tA=1\tl\t\t\tlinked", "x\tvllm\t--a http://10.0.0.1\tA=1\tl\t\t\t",
    "x\tvllm\t--a '{\"b\": \"\\u002fetc\\u002fx\"}'\tA=1\tl\t\t\t",
])  # fmt: skip
def test_a_table_of_arms_is_judged_as_the_op_reads_it(trap: Path, row: str) -> None:
    (trap / "arms.tsv").write_text(f"{HEAD}base\tvllm\t--a 1\tX=2\tnone\t\t\t\n{row}\n")
    with pytest.raises(GateRefused, match=r"arms\.tsv: "):
        tried(trap, "run_variant_ab", arms="arms.tsv", model="m")


@pytest.mark.parametrize(("old", "new"), [
    ("model: mock", "model: mock\nquestions: my dir/x.jsonl"), ("model: mock", "model: mock\ndata: {w: my dir/x.jsonl}"),
    ("model: mock", "model: mock\ntokenizer: linked"), ("isl: 16, osl: 4", "isl: 16, osl: 4, dataset: out/x.jsonl"),
    ("ttft-ms: 2", "'chat-template=/etc/x': true, ttft-ms: 2"), ("ttft-ms: 2", "x: '{\"f\": \"\\\\u002fetc/x\"}'"),
    ("role: baseline", "role: baseline, checkpoint: out"), ("role: baseline", "role: baseline, env: {A: /etc/x}"),
    ("model: mock", "model: mock\ncommon_flags: [--x, /etc/x]"), ("model: mock", "model: mock\nengine_flags: {mock: {x: ~/t}}"),
])  # fmt: skip
def test_a_campaign_file_is_judged_as_the_op_reads_it(trap: Path, old: str, new: str) -> None:
    (trap / "c.yaml").write_text(CAMPAIGN)
    tried(trap, "campaign_init", config="c.yaml")
    (trap / "c.yaml").write_text(CAMPAIGN.replace(old, new, 1))
    with pytest.raises(PaoError):
        tried(trap, "campaign_init", config="c.yaml")


@pytest.mark.parametrize(("verb", "values"), [
    ("bench", {"url": U, "workload": "w", "data": "w=q.jsonl"}), ("bench", {"url": U, "model": "org/name"}),
    ("bench", {"url": "http://LOCALHOST.:1/v1"}), ("bench", {"url": "http://[0:0:0:0:0:0:0:1]:80"}), ("bench", {"url": U,
    "out": "new/deep"}),
    ("run_controlled_ab", {**AB, "flags": '--compilation-config \'{"level": 3}\'', "env": "A=1 B=x:y"}),
    ("run_controlled_ab", {**AB, "lever": "half the batch, ~5% / token: 3 / 4 of it"}), ("run_variant_ab", {"arms": "arms.tsv",
    "model": "m"}),
    ("evaluate", {"endpoint_url": U, "tasks": "gsm8k, q.jsonl"}), ("lint", {"results": ("q.jsonl", "m")}), ("tools", {"action": "list"}),
])  # fmt: skip
def test_an_honest_request_is_let_in(trap: Path, verb: str, values: dict[str, Any]) -> None:
    assert tried(trap, verb, **values).request


# what is shown, and that it is what runs


def test_every_setting_of_every_arm_of_a_table_is_a_line_of_its_own(trap: Path) -> None:
    (trap / "arms.tsv").write_text(
        HEAD
        + "base\tvllm\t\t\tnone\t\t\t\nevil\tvllm\t--max-num-seqs 4 --x 'a b'\tVLLM_CPU_KVCACHE_SPACE=2 OMP=1\tquick\t\t\tm\n"
    )
    lines = tried(trap, "run_variant_ab", arms="arms.tsv", model="m").question.splitlines()
    assert {
        "arm 'base': 'vllm'", "arm 'baseline-again': 'vllm'", "arm 'evil': 'vllm'", "arm 'evil', environment: 'VLLM_CPU_KVCACHE_SPACE=2'",
        "arm 'evil', environment: 'OMP=1'", "arm 'evil', flag: '--max-num-seqs 4'", "arm 'evil', flag: '--x a b'",
        "arm 'evil', checkpoint: 'm'",
    } <= set(lines)  # fmt: skip
    data = (trap / "arms.tsv").read_bytes()
    assert f"file '{trap}/arms.tsv': sha256 {digest(data)}" in lines


@pytest.mark.parametrize(
    "flags", ["--x " + "a" * 3000, "--x a\u202eb", "--x a\x1bb", "--x \u2800", "--x " * 500, "--x a\u00a0b"]
)
def test_an_arm_that_cannot_be_shown_cannot_be_asked(trap: Path, flags: str) -> None:
    (trap / "arms.tsv").write_text(HEAD + f"base\tvllm\t{flags}\t\tnone\t\t\t\n")
    with pytest.raises(GateRefused, match="cannot be shown"):
        tried(trap, "run_variant_ab", arms="arms.tsv", model="m")


def test_a_table_that_is_no_text_is_refused(trap: Path) -> None:
    for data in (b"\xff\xfe\x00", b"", os.urandom(100)):
        (trap / "arms.tsv").write_bytes(data)
        with pytest.raises(WrongUse):
            tried(trap, "run_variant_ab", arms="arms.tsv", model="m")


def test_a_file_that_changed_after_the_question_is_not_run(trap: Path, tmp_path: Path) -> None:
    """The call's own process opens it, finds another content, and stops before anything starts."""
    asked = tried(trap, "run_variant_ab", arms="arms.tsv", model="m", campaigns_dir="runs")
    (trap / "arms.tsv").write_text(HEAD + "base\tvllm\t--evil\t\tnone\t\t\t\n")
    assert tried(trap, "run_variant_ab", arms="arms.tsv", model="m", campaigns_dir="runs") != asked
    folder = tmp_path / "job"
    folder.mkdir()
    values = {"arms": "arms.tsv", "model": "m", "campaigns_dir": "runs"}
    request = {
        "verb": "run_variant_ab",
        "module": "run_variant_ab",
        "workspace": str(trap),
        "values": values,
        "files": dict(asked.files),
    }
    (folder / "request.json").write_text(json.dumps(request))
    assert main(["job", str(folder)]) == 0
    end = json.loads((folder / "result.json").read_text())["envelope"]
    assert (
        end["error"]["code"] == "refused"
        and "has changed since" in end["error"]["message"]
        and not (trap / "runs").exists()
    )


def test_whoever_opens_a_file_that_was_agreed_to_gets_those_bytes_or_an_error(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("[1]")
    with holding({str(path): digest(b"[1]")}):
        assert read_given(path) == b"[1]" and read_json(path) == [1]
        path.write_text("[2]")
        for read in (read_given, read_json):
            with pytest.raises(GateRefused, match="has changed"):
                read(path)
        path.unlink()
        with pytest.raises(GateRefused, match="is gone"):
            require_unchanged({str(path): "0" * 64})
        path.symlink_to(tmp_path / "b.json")
        (tmp_path / "b.json").write_text("[3]")
        with pytest.raises(GateRefused, match="has changed"):
            read_given(path)
    assert read_given(path) == b"[3]"


def test_settings_that_bring_code_are_the_owners_to_allow_and_no_persons(
    trap: Path, own_policy: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(
        tools, "code_settings_of", lambda request, started: tuple(n for a in started.arms for n, _ in a.env)
    )
    with pytest.raises(GateRefused, match="X brings code"):
        tried(trap, "run_variant_ab", arms="arms.tsv", model="m")
    values = {"arms": "arms.tsv", "model": "m"}
    assert admit(own_policy("allow_code: [X]"), all_ops()["run_variant_ab"], values).question
    with pytest.raises(WrongUse, match="a model cannot give this"):
        tried(trap, "run_variant_ab", **values, allow_code="X")


@pytest.mark.parametrize(("verb", "values", "name"), [
    ("run_controlled_ab", {**AB, "env": "LD_PRELOAD=m/x.so"}, "LD_PRELOAD"),
    ("run_controlled_ab", {**AB, "flags": "--middleware m.n"}, "--middleware"),
    ("quantize", {"model": "m", "target": "int8", "trust_remote_code": True}, "trust_remote_code"),
])  # fmt: skip
def test_no_person_at_a_client_can_let_code_in(
    trap: Path, own_policy: Any, verb: str, values: dict[str, Any], name: str
) -> None:
    with pytest.raises(GateRefused, match=f"{name} brings code"):
        tried(trap, verb, **values)
    assert admit(own_policy(f"allow_code: ['{name}']"), all_ops()[verb], values).question


def test_a_load_that_nobody_was_asked_about_is_stopped_after_a_minute_and_a_half(trap: Path, own_policy: Any) -> None:
    op, values = all_ops()["bench"], {"url": U}
    assert tried(trap, "bench", **values).most_s == 90.0
    for text in ("allow: [bench]", "ask: [bench]"):
        assert admit(own_policy(text), op, values).most_s == 1440 * 60
    assert tried(trap, "bench", **values, requests=10_000).most_s == 1440 * 60
    assert parse_request(op, values)
