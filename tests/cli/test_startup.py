"""What does not need an op imports none: the version, help, one Tab, a misspelt verb."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from profile_and_optimize.cli.help import TASKS
from profile_and_optimize.cli.main import PARTS, program
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.cli.reference import verbs
from profile_and_optimize.ops import GROUPS, MODULES
from profile_and_optimize.ops.base import all_ops
from profile_and_optimize.ops.table import FILE, rows

# What may be there beside the standard library: click, and our own table and words.
OURS = (
    "profile_and_optimize",
    "profile_and_optimize.cli",
    "profile_and_optimize.core",
    "profile_and_optimize.evidence",
)
LIGHT = "import sys; from profile_and_optimize.cli.main import main"
SHOW = "import atexit; atexit.register(lambda: print('modules', *sys.modules))"


def imported(*argv: str, tab: str | None = None) -> set[str]:
    """The modules that one call of the program loads, which are none of the standard library."""
    env = dict(os.environ)
    if tab is not None:
        env |= {"PAO_COMPLETE": "bash_complete", "COMP_WORDS": tab, "COMP_CWORD": str(len(tab.split(" ")) - 1)}
    code = f"{LIGHT}; {SHOW}; main({list(argv)!r})"
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60)
    found = done.stdout.splitlines()[-1].split()
    assert found[0] == "modules", done.stderr
    return {m for m in found[1:] if m.split(".")[0] not in sys.stdlib_module_names and not m.startswith(("__", "_"))}


@pytest.mark.parametrize("argv", [("--version",), ("--help",), (), ("verfiy",), ("completion", "zsh")], ids=" ".join)
def test_what_needs_no_op_imports_the_command_line_library_alone(argv: tuple[str, ...]) -> None:
    found = imported(*argv)
    assert {m.split(".")[0] for m in found} == {"click", "profile_and_optimize"}
    ours = {m for m in found if m.startswith("profile_and_optimize.")}
    assert {m for m in ours if m.startswith("profile_and_optimize.ops")} <= {
        "profile_and_optimize.ops",
        "profile_and_optimize.ops.table",
    }
    assert all(m.startswith(OURS) or ".ops" in m for m in ours)


@pytest.mark.parametrize("tab", ["pao ver", "pao verify --", "pao optimize --suite de", "pao optimize --levers "])
def test_one_tab_imports_no_op_either(tab: str) -> None:
    assert not {m.split(".")[0] for m in imported(tab=tab)} - {"click", "profile_and_optimize"}


def test_the_table_of_verbs_is_what_the_ops_say() -> None:
    assert FILE.read_text() == verbs(program()), "run: pao reference --write docs/reference"
    assert list(rows()) == [*MODULES, *PARTS]
    for verb, op in all_ops().items():
        row = rows()[verb]
        assert (row.help, row.safety, row.mcp_name) == (op.help, op.safety.value, op.mcp_name)
        assert verb in MODULES and list(row.arguments) == [*(a + "..." * (a == "results") for a in op.positional)]


def test_a_verb_that_the_table_lacks_is_read_from_its_op(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    without = {name: row for name, row in rows().items() if name != "lint"}
    monkeypatch.setattr("profile_and_optimize.cli.main.rows", lambda: without)
    assert pao(["--help"]) == 0
    assert "lint          Read results that exist" in capsys.readouterr().out


def test_help_names_every_verb_in_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["--help"]) == 0
    shown = capsys.readouterr().out
    titles = [line.removesuffix(":") for line in shown.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert titles == ["Options", *GROUPS, "For agents and shells"]
    assert {line.split()[0] for line in shown.splitlines() if line.startswith("  ")} >= {*MODULES, *PARTS}
    assert max(map(len, shown.splitlines())) <= 80


def test_bare_pao_answers_by_task_with_commands_that_exist(capsys: pytest.CaptureFixture[str]) -> None:
    assert pao([]) == 0
    shown = capsys.readouterr().out
    group = program()
    for task, line in TASKS:
        assert task in shown and line in shown
        words = shlex.split(line)[1:]
        command = group.get_command(click.Context(group), words[0])
        assert command is not None
        command.make_context(words[0], words[1:])


@pytest.mark.parametrize(("argv", "near", "then"), [
    (["verfiy"], "did you mean verify?", "pao --help"),
    (["run-varient-ab"], "did you mean run_variant_ab?", "pao --help"),
    (["verify", "x", "--agianst", "y"], "'--against'", "pao verify --help"),
])  # fmt: skip
def test_a_misspelt_verb_or_option_is_told_the_near_one(
    argv: list[str], near: str, then: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pao([*argv, "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert near in error["message"] and error["next"] == then


@pytest.mark.parametrize(("argv", "near"), [
    (["verify", "qwn-chat"], "(did you mean qwen-chat?)"),
    (["campaign_init", "--config", "cmpaign.yaml"], "(did you mean campaign.yaml?)"),
    (["lint", "campaign.yml"], "(did you mean campaign.yaml?)"),
    (["optimize", "--model", "mock", "--engines", "mokc"], "(did you mean mock?)"),
    (["optimize", "--model", "mock", "--engines", "mock", "--suite", "dmeo"], "(did you mean demo?)"),
    (["workloads", "--suite", "canonicl"], "(did you mean canonical?)"),
    (["tools", "install", "guidelm"], "(did you mean guidellm?)"),
])  # fmt: skip
def test_a_misspelt_run_file_or_name_is_told_the_near_one(
    argv: list[str], near: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PERFREPORT_CAMPAIGNS_DIR", raising=False)
    (tmp_path / "campaigns/20260101T000000Z-qwen-chat").mkdir(parents=True)
    (tmp_path / "campaign.yaml").write_text("name: x\n")
    assert pao([*argv, "--json"]) == 2
    assert near in json.loads(capsys.readouterr().out)["error"]["message"]


def test_the_program_starts_nothing_that_its_folder_holds(tmp_path: Path) -> None:
    """A Tab reads names; a run folder's content is not opened."""
    run = tmp_path / "campaigns/20260101T000000Z-mine"
    run.mkdir(parents=True)
    (run / "plan.json").write_text("not JSON")
    done = subprocess.run(
        [sys.executable, "-m", "profile_and_optimize.cli.main"], cwd=tmp_path, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PAO_COMPLETE": "bash_complete", "COMP_WORDS": "pao verify ", "COMP_CWORD": "2"},
    )  # fmt: skip
    assert done.stdout.split() == ["plain,mine", "plain,20260101T000000Z-mine"]


@pytest.mark.parametrize("verb", ["verify", "explain", "lint", "workloads", "report_smoke"])
def test_a_verb_that_reads_imports_nothing_that_sends_or_draws(verb: str) -> None:
    """scipy costs most of all; the first number that needs it imports it."""
    code = f"import sys, profile_and_optimize.ops.{verb}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"httpx", "scipy", "tokenizers", "matplotlib", "uvloop", "rich", "mcp"}
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy
