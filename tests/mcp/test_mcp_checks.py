"""What a request may name: nothing outside of the workspace, no other host, no other interpreter, no longer budget."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_help import CAMPAIGN

from profile_and_optimize.core.errors import GateRefused, PaoError, WrongUse
from profile_and_optimize.mcp.checks import Checker, check_request, refuse_hostile
from profile_and_optimize.mcp.policy import Policy, load_policy
from profile_and_optimize.ops.base import all_ops, parse_request

Make = Callable[[str], Policy]


def refuses(policy: Policy, value: Any, name: str = "any", said: str = "policy") -> None:
    with pytest.raises(GateRefused, match=said) as caught:
        Checker(policy).every({name: value})
    assert caught.value.where == name and caught.value.next


@pytest.mark.parametrize("text", [
    "/etc/passwd", "../x", "a/../../x", "~/x", "x,/etc/passwd", "--file=/etc/passwd", '{"file": "/etc/passwd"}', "a=../../x",
    "out", "out/x",    "a,out/x", "loop/x", "a\n/etc/passwd", "/proc/self/cwd/../../../etc", "file:///etc/passwd", "HTTP://10.0.0.1/x", "http://127.0.0.1@10.0.0.1/",
    "http://127.0.0.1.evil.example", "http://[::2]:80", "s3://127.0.0.1/x", "http://2130706433", "http://", "x http://10.0.0.1",
    "http://localhost:80\\@10.0.0.1/",
])  # fmt: skip
def test_a_text_that_leads_elsewhere_is_refused_in_any_field(work: Path, text: str) -> None:
    (work / "out").symlink_to(work.parent)
    (work / "loop").symlink_to("loop")
    policy = load_policy(None, work)
    refuses(policy, text)
    refuses(policy, ["fine", text])
    with pytest.raises(GateRefused):
        Checker(policy).every({"deep": {"er": (text,)}})


@pytest.mark.parametrize("text", [
    "", "my-campaign", "random-128-64", "runs/one", "./runs", "org/model", "8,16,64", "x/../y", "http://127.0.0.1:8000/v1", "http://localhost",
    "http://[::1]:8000", "a 3 / 4 of it", "poisson", "kv-cache-dtype=fp8_e4m3", "0.5", "in", "in/x",
])  # fmt: skip
def test_a_text_that_stays_here_is_not(work: Path, text: str) -> None:
    (work / "real").mkdir()
    (work / "in").symlink_to("real")
    Checker(load_policy(None, work)).every({"any": [text]})


def test_absolute_paths_in_the_workspace_and_in_the_owners_folders_are_fine(work: Path, own_policy: Make) -> None:
    models = work.parent / "models"
    models.mkdir()
    (models / "out").symlink_to("/etc")
    policy = own_policy(f"folders: [{models}]")
    Checker(policy).every([str(work), f"{work}/x", str(models / "llama"), f"--chat-template={models}/t.jinja"])
    refuses(policy, str(models / "out" / "passwd"), said="outside of the workspace")
    refuses(policy, str(work) + "-of-another")


def test_a_python_an_image_and_a_model_are_the_owners_choice(work: Path, own_policy: Make) -> None:
    refuses(load_policy(None, work), "/usr/bin/python3", "python", "policy's python")
    refuses(load_policy(None, work), "repo/image:1", "image", "policy's images")
    policy = own_policy("python: [/opt/vllm/bin/python]\nimages: ['repo/*']\nmodels: ['org/*']")
    Checker(policy).every(
        {"python": "/opt/vllm/bin/python", "image": "repo/image:1", "model": "org/m", "tokenizer": "org/m"}
    )
    refuses(policy, "/opt/vllm/bin/../../other/python", "python")
    refuses(policy, "vllm/bin/python", "engine_python")
    refuses(policy, "other/image", "image")
    refuses(policy, "other/model", "model", "policy's models")


def test_a_budget_has_a_limit_in_a_request_and_in_a_plan(own_policy: Make) -> None:
    policy = own_policy("budget_minutes: 10")
    Checker(policy).every({"budget_minutes": 10, "budget_s": 600.0})
    refuses(policy, 10.5, "budget_minutes", "10.5 minutes, the policy's budget_minutes is 10")
    refuses(policy, 601.0, "budget_s")


@pytest.mark.parametrize(("values", "said"), [
    ({"model": "a\0b"}, "NUL"),
    ({"cells": ["ok", "a\0b"]}, "NUL"),
    ({"model": "x" * 70_000}, "70000 characters"),
    ({"model": "--trust-remote-code"}, "starts with '-'"),
    ({"url": "-o/etc/x"}, "starts with '-'"),
    ({"files": ["a.json", "--out=x"]}, "starts with '-'"),
])  # fmt: skip
def test_what_no_option_can_mean_is_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(WrongUse, match=said) as caught:
        refuse_hostile(values)
    assert len(str(caught.value)) < 400
    refuse_hostile({"number": "-3.2%", "files": ["a", "b"], "n": -1})


def checked(policy: Policy, verb: str, **values: Any) -> None:
    op = all_ops()[verb]
    check_request(policy, op, parse_request(op, values))


@pytest.mark.parametrize(("old", "new", "said"), [
    ("ttft-ms: 2", "chat-template: /etc/x", "c.yaml: chat-template: '/etc/x'"),
    ("model: mock", "model: /models/secret", "c.yaml: model"),
    ("model: mock", "model: mock\nbudget_minutes: 100000", "c.yaml: budget_minutes"),
    ("engine: mock", "engine: endpoint\ntokenizer: ../../x", "c.yaml: tokenizer"),
    ("role: baseline", "role: baseline, url: 'http://10.0.0.1'", "c.yaml: url"),
])  # fmt: skip
def test_a_campaign_file_says_no_more_than_a_request_may(work: Path, old: str, new: str, said: str) -> None:
    policy = load_policy(None, work)
    (work / "c.yaml").write_text(CAMPAIGN)
    checked(policy, "campaign_init", config="c.yaml")
    (work / "c.yaml").write_text(CAMPAIGN.replace(old, new, 1))
    with pytest.raises(GateRefused, match=said):
        checked(policy, "campaign_init", config="c.yaml")


@pytest.mark.parametrize("flags", [
    "--chat-template /etc/x", "--chat-template=/etc/x", "--chat-template \\/etc/x", "--chat-template '/et'c/x", '--c \'{"f": "/etc/x"}\'',
    "--c ../../x",
])  # fmt: skip
def test_nor_does_a_table_of_arms(work: Path, flags: str) -> None:
    head = "arm\tengine\tflags\tenv\tlever\n"
    for name in ("arms.tsv", "arms.other"):
        (work / name).write_text(f"{head}a\tmock\t--ttft-ms 1\tA=1\tless\n")
        checked(load_policy(None, work), "run_variant_ab", model="m", arms=name)
        (work / name).write_text(f"{head}a\tmock\t{flags}\tA=1\tless\n")
        with pytest.raises(GateRefused, match="outside"):
            checked(load_policy(None, work), "run_variant_ab", model="m", arms=name)


def test_nor_does_the_plan_of_a_run_which_an_agent_could_have_written(work: Path, synthetic: Path) -> None:
    policy = load_policy(None, work)
    checked(policy, "campaign_run", campaign=synthetic.name)
    plan = synthetic / "plan.json"
    plan.write_text(plan.read_text().replace('"model": "', '"model": "/elsewhere/', 1))
    with pytest.raises(GateRefused, match=r"plan\.json: model"):
        checked(policy, "campaign_run", campaign=synthetic.name)
    checked(policy, "verify", campaign=synthetic.name)


def test_a_run_behind_a_link_is_elsewhere(work: Path, closed_run: Path) -> None:
    (work / "campaigns").mkdir()
    (work / "campaigns" / closed_run.name).symlink_to(closed_run)
    for name in (closed_run.name, "synthetic", f"campaigns/{closed_run.name}"):
        for verb in ("verify", "campaign_run"):
            with pytest.raises(PaoError, match="outside"):
                checked(load_policy(None, work), verb, campaign=name)
