"""Settings that bring code, by every road to a server: refused unless named on the command line, and named on every page."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from profile_and_optimize.campaign import conduct
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.code_settings import allowance_of, refuse_code
from profile_and_optimize.core.errors import GateRefused, WrongUse
from profile_and_optimize.engines.base import ServeSpec
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.mcp.policy import Policy, PolicyFile
from profile_and_optimize.mcp.tools import _values, admit
from profile_and_optimize.ops.base import all_ops
from profile_and_optimize.ops.campaigns import create
from profile_and_optimize.ops.run_controlled_ab import ControlledRequest, arms_of
from profile_and_optimize.optimize.arms_tsv import parse_arms
from profile_and_optimize.testing.fakes import FakeClient, FakeClock, FakeEngine, fake_world
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run

CAMPAIGN = {
    "a cell's env": "cells: [{cell_id: a, role: baseline}, {cell_id: b, env: {LD_PRELOAD: ./x.so}}]",
    "a cell's flags": "cells: [{cell_id: a, role: baseline}, {cell_id: b, flags: {tool_parser_plugin: x.py}}]",
    "common_env": "common_env: {PYTHONPATH: /tmp}\ncells: [{cell_id: a, role: baseline}, {cell_id: b}]",
    "common_flags": "common_flags: [--middleware, a.b]\ncells: [{cell_id: a, role: baseline}, {cell_id: b}]",
    "engine_flags": "engine_flags: {mock: [--hf-overrides, '{}']}\ncells: [{cell_id: a, role: baseline}, {cell_id: b}]",
}


@pytest.mark.parametrize("place", CAMPAIGN)
def test_a_campaign_file_is_refused_without_the_name_and_made_with_it(
    place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "c.yaml").write_text(f"name: n\nmodel: m\nengine: mock\n{CAMPAIGN[place]}\n")
    space = tmp_path / "space"
    argv = ["campaign_init", "--config", str(tmp_path / "c.yaml"), "--campaigns-dir", str(space)]
    assert pao(argv) == 2 and not space.exists()
    said = " ".join(capsys.readouterr().err.split())
    name = re.search(r"--allow-code (\S+)", said)
    assert name is not None and pao([*argv, "--allow-code", "all"]) == 2 and not space.exists()
    assert pao([*argv, "--allow-code", name[1]]) == 0
    run = next(space.iterdir())
    assert json.loads((run / "draft.json").read_text())["code_allowed"] == [[name[1], "the command line"]]
    capsys.readouterr()
    start = ["campaign_run", str(run), "--i-understand-this-submits-jobs"]
    for more in ((), ("--dry-run",)):  # what the file says it was allowed is not asked again of the file
        assert pao([*start, *more]) == 2
        assert "need an acknowledgement" in " ".join(capsys.readouterr().err.split())
    assert not (run / "plan.json").exists()


def test_arms_of_a_table_and_of_the_command_line_end_at_the_new_run_and_at_the_server(tmp_path: Path) -> None:
    table = b"arm\tengine\tflags\tenv\tlever\nbase\tvllm\t\t\t\nx\tvllm\t'--middle' a\tLD_PRELOAD=./x.so\tl\n"
    from_table = parse_arms(table, "arms.tsv")
    from_line = arms_of(ControlledRequest(flags='"--reasoning-parser-plugin" x.py', env="VLLM_PLUGINS=x"))
    for arms in (from_table, from_line):
        plan = replace(synthetic_plan(), arms=arms)
        with pytest.raises(WrongUse, match="need an acknowledgement"):
            create(plan, tmp_path / "space", "# Source\n")
        with pytest.raises(WrongUse, match="need an acknowledgement"):
            ServeSpec(arms[-1], "m", "m", 1, tmp_path / "log")
        assert not (tmp_path / "space").exists()


def test_a_plan_that_was_changed_after_it_was_made_starts_no_server(tmp_path: Path) -> None:
    """Also where the change says that it was allowed."""
    plan = synthetic_plan()
    arms = tuple(replace(a, env=(("LD_PRELOAD", "x"),)) if a.id == "fast" else a for a in plan.arms)
    bad = replace(plan, arms=arms, code_allowed=(("LD_PRELOAD", "the command line"),))
    world = fake_world(FakeEngine(SPEEDS, {"broken": "no"}), FakeClient(), FakeClock())
    run = synthetic_run(tmp_path / "20260921T141320Z-x", replace(plan, blocks=2))
    (run / "plan.json").write_text(json.dumps(bad.to_json()))
    folder = RunFolder(run, world.now)
    with pytest.raises(WrongUse, match="LD_PRELOAD"):
        conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()


def test_every_page_names_what_brought_code(tmp_path: Path) -> None:
    plan = synthetic_plan(blocks=3)
    arms = tuple(replace(a, env=(("LD_PRELOAD", "./libfast.so"),)) if a.id == "fast" else a for a in plan.arms)
    plan = replace(plan, arms=arms, code_allowed=(("LD_PRELOAD", "the command line"),))
    engine = FakeEngine(SPEEDS, {"broken": "no"})
    world = replace(fake_world(engine, FakeClient(), FakeClock()), allow_code=allowance_of("LD_PRELOAD"))
    run = tmp_path / "20260921T141320Z-x"
    folder = RunFolder(run, world.now)
    conduct.open_draft(folder, plan)
    conduct.run(folder, conduct.admit(folder, world), world)
    folder.close()
    assert pao(["report_render", str(run)]) == 0
    for name in ("report.html", "report.txt", "CHAMPION.md", "HANDOFF.md", "summary.md", "serve.sh"):
        flat = " ".join((run / name).read_text().replace("\\", "").split())
        assert "fast: LD_PRELOAD=./libfast.so (allowed: the command line)" in flat, name
        assert "runs code of its own" in flat.lower(), name
    assert pao(["verify", str(run)]) in (0, 4)


def _policy(tmp_path: Path, **keys: object) -> Policy:
    return Policy(PolicyFile(**keys), (tmp_path,), "")  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["allow_code", "allowed_by"])
def test_an_agent_cannot_allow_and_the_owner_s_policy_can(field: str, tmp_path: Path) -> None:
    op = all_ops()["campaign_run"]
    with pytest.raises(WrongUse, match="a model cannot give this"):
        admit(_policy(tmp_path), op, {"campaign": "x", field: "LD_PRELOAD"})
    request = op.request(campaign="x")
    assert _values(op, request, _policy(tmp_path))["allow_code"] == ""
    given = op.request(**_values(op, request, _policy(tmp_path, allow_code=("LD_PRELOAD", "--middleware"))))
    arm = Arm("x", "vllm", Role.CANDIDATE, ("--middleware", "a"), (("LD_PRELOAD", "b"),))
    ServeSpec(arm, "m", "m", 1, tmp_path / "log", allow_code=given.allowance)  # type: ignore[attr-defined]
    assert given.allowance.by == "the owner's policy"  # type: ignore[attr-defined]


def test_an_agent_runs_a_model_s_own_python_only_where_the_policy_says_so(tmp_path: Path) -> None:
    op, asked = all_ops()["quantize"], {"model": "m", "target": "int8", "trust_remote_code": True}
    with pytest.raises(GateRefused, match="trust_remote_code brings code"):
        admit(_policy(tmp_path, allow=("quantize",)), op, asked)


def test_a_task_file_has_to_be_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = tmp_path / "mine.yaml"
    task.write_text("task: mine\ndoc_to_text: !function code.run\n")
    argv = [
        "evaluate",
        "--tasks",
        str(task),
        "--endpoint-url",
        "http://127.0.0.1:1",
        "--campaigns-dir",
        str(tmp_path / "s"),
    ]
    assert pao(argv) == 2 and not (tmp_path / "s").exists()
    assert f"--allow-code {task}" in " ".join(capsys.readouterr().err.split())
    refuse_code((), allowance_of(str(task)))
