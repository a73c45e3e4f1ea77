"""Commands are argument lists, never a shell; what is handed on may not begin with a dash; rendered scripts quote every value."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hostile import SHELL

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import load_evidence
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.clients.base import LoadRequest
from profile_and_optimize.clients.external import refuse_unlike
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id, not_an_option
from profile_and_optimize.engines.base import Command, ServeSpec
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.engines.vllm import VllmEngine
from profile_and_optimize.ops.campaigns import command_line
from profile_and_optimize.ops.config import CellConfig, flag_list
from profile_and_optimize.report.serving import serve_script
from profile_and_optimize.testing.fakes import FakeEngine
from profile_and_optimize.testing.synthetic import SPEEDS, synthetic_plan, synthetic_run
from profile_and_optimize.toolenv.child import child_env
from profile_and_optimize.toolenv.find import ToolEnv
from profile_and_optimize.toolenv.world import observe

SRC = Path(__file__).parents[2] / "src/profile_and_optimize"
# A shell, code from text, pickles, and unpacking of archives: what no file of ours may reach for.
CALLS = {
    "os.system", "os.popen", "os.execl", "os.execlp", "subprocess.getoutput", "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell", "eval", "exec", "compile", "yaml.unsafe_load", "yaml.full_load", "torch.load",
    "np.load", "numpy.load",
    "shutil.unpack_archive", "zipfile.ZipFile", "jinja2.Template",
}  # fmt: skip
MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "tarfile", "pty"}


def named(node: ast.expr) -> str:
    """ "os.system" of what is called; "" where it is no plain name."""
    if isinstance(node, ast.Attribute):
        return f"{named(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def calls_and_imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            shell = [k for k in node.keywords if k.arg == "shell"]
            found |= {named(node.func), *("shell=True" for _ in shell)}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def test_no_file_of_ours_asks_for_a_shell_unpickles_or_runs_text() -> None:
    bad = CALLS | MODULES | {"shell=True"}
    wrong = {str(p.relative_to(SRC)): w for p in SRC.rglob("*.py") if (w := sorted(bad & calls_and_imports(p)))}
    assert wrong == {}


RECORDER = """#!{python} -I
import json, os, sys
json.dump({{"argv": sys.argv, "lever": os.environ.get("LEVER")}}, open({where!r}, "w"))
"""
VALUES = (
    SHELL,
    "$(touch pwned)",
    "`touch pwned`",
    "a\tb",
    "'",
    '"',
    "\\",
    "",
    " ",
    "é\u202e",
    '{"k": "$(touch pwned)"}',
    "PORT",
)
LINES = "first\n$(touch pwned)\n`touch pwned`\n'"


@pytest.fixture(scope="module")
def fake_vllm(tmp_path_factory: pytest.TempPathFactory) -> ToolEnv:
    """A Python that writes down how it was called; even its own path tries to be a command."""
    folder = tmp_path_factory.mktemp("env") / "it's $(touch pwned) `x`" / "bin"
    folder.mkdir(parents=True)
    python = folder / "python"
    python.write_text(RECORDER.format(python=sys.executable, where=str(folder / "seen.json")))
    python.chmod(0o755)
    return ToolEnv("vllm", python, (("vllm", "0.32.0"),), None, None, "user")


class VllmCommands(FakeEngine):
    """Fakes that are started by the command lines of vLLM."""

    env: ToolEnv

    def command(self, spec: ServeSpec) -> Command:
        return VllmEngine(self.env).command(spec)


def test_the_rendered_script_hands_over_exactly_what_was_measured(fake_vllm: ToolEnv, tmp_path: Path) -> None:
    engine = VllmCommands(SPEEDS, {"broken": "no"})
    object.__setattr__(engine, "env", fake_vllm)
    flags = tuple(x for v in VALUES for x in ("--value", v))
    plan = synthetic_plan(blocks=3)
    arms = tuple(replace(a, flags=flags, env=(("LEVER", LINES),)) if a.id == "fast" else a for a in plan.arms)
    run = synthetic_run(tmp_path / "20260921T141320Z-x", replace(plan, model=SHELL, arms=arms), engine=engine)
    ev = load_evidence(run)
    d = decide(ev)
    assert d.pick == "fast"
    (tmp_path / "serve.sh").write_text(serve_script(ev, d))
    done = subprocess.run(["bash", "serve.sh"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "PORT": "8123"}, timeout=30)
    seen = json.loads((fake_vllm.python.parent / "seen.json").read_text())
    assert done.returncode == 0 and not list(tmp_path.glob("pwned*"))
    assert seen["argv"][1:5] == ["-m", "vllm.entrypoints.cli.main", "serve", SHELL]
    assert seen["argv"][seen["argv"].index("--port") + 1] == "8123"
    assert [seen["argv"][i + 1] for i, a in enumerate(seen["argv"]) if a == "--value"] == list(VALUES)
    assert seen["lever"] == LINES


def test_a_dry_run_s_line_is_the_command_when_it_is_pasted() -> None:
    shown = {"cell": "x", "argv": ["serve", SHELL, *VALUES], "env": {"LEVER": LINES}}
    assert shlex.split(command_line(shown)) == ["x:", f"LEVER={LINES}", "serve", SHELL, *VALUES]


@pytest.mark.parametrize("name", ["-rf", "--trust-remote-code", "", "a\nb", "a\0b", "\x1b[31m"])
def test_a_model_that_would_read_as_an_option_is_refused(name: str, fake_vllm: ToolEnv, tmp_path: Path) -> None:
    with pytest.raises(WrongUse):
        not_an_option(name, "model")
    with pytest.raises(WrongUse):
        VllmEngine(fake_vllm).command(ServeSpec(Arm("a", "vllm", Role.BASELINE), name, "model", 1, tmp_path / "log"))
    with pytest.raises(WrongUse):
        refuse_unlike(LoadRequest("http://127.0.0.1:1", name, "chat", ("p",), 1, 1), "aiperf")


@pytest.mark.parametrize(("flags", "word"), [
    (("--config", "all.yaml"), "--config"), (("--config=all.yaml",), "--config"), (("--hos", "0.0.0.0"), "--host"),
    (("--load-f", "pt"), "pickles"),
    (("--uds=x",), "--uds"), (("--host=0.0.0.0",), "--host"), (("--load-format", "pt"), "pickles"),
    (("--load_format=NPCACHE",), "pickles"),
    (("--x", "a\nb"), "control"),
])  # fmt: skip
def test_flags_that_move_the_server_or_bring_pickles_are_refused(flags: tuple[str, ...], word: str) -> None:
    with pytest.raises(WrongUse, match=word):
        Arm("x", "vllm", Role.CANDIDATE, flags)
    with pytest.raises(WrongUse, match=word):
        replace(synthetic_plan(), common_flags=flags)


@pytest.mark.parametrize("value", ["--trust-remote-code", "-x", "-", "- 5", {"a": 1}, ["-x"]])
def test_a_value_of_a_campaign_file_cannot_become_an_option(value: object) -> None:
    with pytest.raises(WrongUse, match="--quantization"):
        flag_list({"quantization": value})
    assert flag_list({"a": -0.5, "b": "-1"}) == ("--a", "-0.5", "--b", "-1")


@pytest.mark.parametrize("name", ["X;touch pwned", "X=1", "", "X Y", "1X", "X\n", "É"])
def test_names_that_are_no_variables_are_refused(name: str) -> None:
    with pytest.raises(WrongUse):
        Arm("x", "vllm", Role.CANDIDATE, (), ((name, "1"),))


@pytest.mark.parametrize("name", ["abc\n", "abc\n$(touch pwned)", "../x", "a/b", "<img>", "-x", "a b", "é"])
def test_an_id_is_a_name_to_its_last_character(name: str) -> None:
    """One that ends in a line break would end the comment that it stands in at the head of serve.sh."""
    with pytest.raises(WrongUse):
        checked_id(name, "cell id")


def test_urls_of_a_campaign_file_are_checked_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cells = [
        {"cell_id": "a", "role": "baseline", "url": "-oProxyCommand=x"},
        {"cell_id": "b", "url": "http://127.0.0.1:1"},
    ]
    (tmp_path / "c.yaml").write_text(json.dumps({"name": "n", "model": "m", "engine": "endpoint", "cells": cells}))
    space = tmp_path / "space"
    assert pao(["campaign_init", "--config", str(tmp_path / "c.yaml"), "--campaigns-dir", str(space)]) == 2
    assert "not an http(s) URL" in capsys.readouterr().err and not space.exists()
    assert CellConfig(cell_id="a").url == ""


SPOILT = (
    "import os; open(os.path.join(os.path.dirname(os.path.abspath(__file__)), 'pwned'), 'w')\nraise SystemExit(7)\n"
)


def test_the_folder_that_we_are_in_cannot_replace_a_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json", "orjson", "httpx", "uvloop", "pip", "profile_and_optimize"):
        (tmp_path / f"{name}.py").write_text(SPOILT)
    monkeypatch.chdir(tmp_path)
    spec = ServeSpec(Arm("a", "mock", Role.BASELINE), "mock", "mock", 1, tmp_path / "log")
    pip = [sys.executable, "-m", "pip", "--version"]
    for argv, env in (([*MockEngine().command(spec).argv, "--help"], None), (pip, child_env({}))):
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    assert observe(target=tmp_path, python=Path(sys.executable)).python_version[0] == 3
    assert not (tmp_path / "pwned").exists()
