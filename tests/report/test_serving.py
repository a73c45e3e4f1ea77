"""serve.sh starts exactly what was measured, whatever the values hold."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

import pytest
from report_help import render

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.report.serving import quoted, serve_script

EVIL = "$(touch pwned); `touch pwned` ' \" \\ && touch pwned"


def with_command(ev: Evidence, argv: list[str], env: dict[str, str], cores: list[int]) -> Evidence:
    return dataclasses.replace(ev, commands={"fast": {"argv": argv, "env": env, "cores": cores}})


def run(script: str, where: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    (where / "serve.sh").write_text(script)
    subprocess.run(["bash", "-n", "serve.sh"], cwd=where, check=True)
    given = {"PATH": "/usr/bin:/bin", **(env or {})}
    return subprocess.run(["bash", "serve.sh"], cwd=where, env=given, capture_output=True, text=True)


def test_hostile_values_arrive_as_they_are(evidence: Evidence, tmp_path: Path) -> None:
    argv = ["printf", "%s|", "--port", "PORT", EVIL, "PORT", "-x"]
    ev = with_command(evidence, argv, {"LEVER": EVIL, "X; touch pwned": "1"}, [])
    done = run(serve_script(ev, decide(ev)), tmp_path, {"PORT": "9000"})
    assert done.stdout == f"--port|9000|{EVIL}|PORT|-x|"
    assert not (tmp_path / "pwned").exists()


def test_environment_and_default_port(evidence: Evidence, tmp_path: Path) -> None:
    ev = with_command(evidence, ["bash", "-c", 'printf "%s %s" "$LEVER" "$1"', "--port", "PORT"], {"LEVER": "a b"}, [])
    script = serve_script(ev, decide(ev)).replace('--port "$PORT"', '_ "$PORT"')
    assert run(script, tmp_path).stdout == "a b 8000"


def test_cores_are_those_of_the_measurement(evidence: Evidence, tmp_path: Path) -> None:
    ev = with_command(evidence, ["echo", "up"], {}, [0])
    script = serve_script(ev, decide(ev))
    assert "taskset -c" in script
    assert run(script, tmp_path, {"CORES": ""}).stdout == "up\n"


def test_header_says_what_it_is(evidence: Evidence, files: dict[str, str]) -> None:
    head = files["serve.sh"].split("set -euo pipefail")[0]
    for part in (evidence.run.name, evidence.root, "DRAFT", "fast"):
        assert part in head


def test_a_redacted_value_is_not_started(evidence: Evidence, tmp_path: Path) -> None:
    ev = with_command(evidence, ["echo", "--api-key", "[redacted]"], {}, [])
    done = run(serve_script(ev, decide(ev)), tmp_path)
    assert (done.returncode, done.stdout) == (1, "")
    assert "redacted" in done.stderr


def test_an_endpoint_has_nothing_to_start(evidence: Evidence, tmp_path: Path) -> None:
    arms = tuple(dataclasses.replace(a, engine="endpoint", url="http://10.0.0.1:8000") for a in evidence.plan.arms)
    plan: Plan = dataclasses.replace(evidence.plan, arms=arms)
    ev = dataclasses.replace(with_command(evidence, [], {}, []), plan=plan)
    done = run(serve_script(ev, decide(ev)), tmp_path)
    assert done.returncode == 1
    assert "nothing to start" in done.stderr and "http://10.0.0.1:8000" in done.stderr
    assert "restart variance is unknown" in render(ev)["report.txt"]


def test_only_the_word_after_port_is_the_port() -> None:
    assert quoted(["serve", "PORT", "--port", "PORT"]) == ["serve", "PORT", "--port", '"$PORT"']
    assert quoted(["serve", "-p", "PORT"]) == ["serve", "-p", '"$PORT"']


def test_manifest_and_known_good_point_at_the_evidence(evidence: Evidence, files: dict[str, str]) -> None:
    manifest, good = json.loads(files["serve.manifest.json"]), json.loads(files["known_good_config.json"])
    assert manifest["evidence_root"] == good["evidence_root"] == evidence.root
    assert manifest["argv"] == ["fake-serve", "fake-model", "--port", "PORT", "--fast"]
    assert good["flags"] == ["--fast"] and good["tier"] == "DRAFT" and good["hardware"] == "cpu:fake"
    assert good["effect"]["lower"] < good["effect"]["estimate"] < good["effect"]["upper"]


def test_a_pick_without_a_kept_command_says_so(evidence: Evidence) -> None:
    ev = dataclasses.replace(evidence, commands={})
    assert "no command of fast was kept" in serve_script(ev, decide(ev))


@pytest.mark.parametrize("role", [Role.BASELINE])
def test_the_arm_s_url_may_hold_quotes(evidence: Evidence, role: Role, tmp_path: Path) -> None:
    arms = tuple(Arm(a.id, "endpoint", a.role, url=f"http://x/{EVIL}") for a in evidence.plan.arms)
    ev = dataclasses.replace(evidence, plan=dataclasses.replace(evidence.plan, arms=arms), commands={})
    assert run(serve_script(ev, decide(ev)), tmp_path).returncode == 1
    assert not (tmp_path / "pwned").exists()
