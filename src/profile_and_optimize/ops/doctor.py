"""pao doctor: what this machine can do, and what is missing, with the command that brings it. No network is used."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from pydantic import Field

from profile_and_optimize.campaign.world import host_facts
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.engines.process import free_port
from profile_and_optimize.evidence.folder import workspace
from profile_and_optimize.ops.acts import reads
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.options import says
from profile_and_optimize.report.words import plain
from profile_and_optimize.toolenv.find import default_root, find_all
from profile_and_optimize.toolenv.preflight import Finding, check
from profile_and_optimize.toolenv.specs import spec_of
from profile_and_optimize.toolenv.world import observe

# What a Python package adds, and the extra or package to install for it.
PACKAGES = {
    "pandas": ("Run.requests() as a DataFrame", "pip install 'profile-and-optimize[export]'"),
    "pyarrow": ("pao export --format parquet", "pip install 'profile-and-optimize[export]'"),
}
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


class DoctorRequest(Request):
    tools_dir: Annotated[str | None, OUT] = Field(default=None, description=says("tools_dir"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))


def run(req: DoctorRequest, say: Say) -> Result:
    root = Path(req.tools_dir) if req.tools_dir else default_root()
    found = [*_machine(root), *_tools(root), *_workspace(workspace(req.campaigns_dir)), *_optional()]
    missing = [f.name for f in found if not f.ok]
    return Result({"findings": [asdict(f) for f in found], "not_ok": missing}, text_of(found))


def text_of(found: list[Finding]) -> str:
    names = max(len(f.name) for f in found)
    lines = [
        f"{f.severity:<8} {f.name:<{names}}  {f.message}" + (f"  ->  {f.command}" if f.command and not f.ok else "")
        for f in found
    ]
    return "\n".join([*lines, *("", *_able(found))])


def _able(found: list[Finding]) -> Iterator[str]:
    """What the findings add up to."""
    state = {f.name: f.ok for f in found}
    yield "can do now: ab and bench of servers that run, lint, verify, explain, export, campaigns on the mock engine"
    engines = [name for name in ("vllm", "sglang") if state.get(f"tool {name}")]
    yield (
        f"can serve on its own: {', '.join(engines)}" if engines else "cannot serve a model yet: pao tools install vllm"
    )


def _machine(root: Path) -> Iterator[Finding]:
    """What an installation of vLLM for CPUs looks at, which has the longest list, and the accelerators."""
    yield from check(observe(target=root, python=Path(sys.executable)), spec_of("vllm"))
    facts = host_facts()
    hardware = facts.get("hardware")
    if hardware is None:
        yield Finding("gpu", "warning", "an accelerator driver is here, but not one whose devices can be read")
    elif hardware.startswith("gpu:"):
        n = len(facts["gpu_ids"].split(","))
        yield Finding("gpu", "ok", plain(f"{n} x {hardware.removeprefix('gpu:')}, driver: {facts['driver']}"))
    else:
        yield Finding("gpu", "ok", plain(f"none seen; processor {hardware.removeprefix('cpu:')}"))
    yield _port()


def _port() -> Finding:
    try:
        return Finding("ports", "ok", f"a free port of 127.0.0.1 can be taken (for example {free_port()})")
    except OSError as e:
        return Finding("ports", "missing", f"no port of 127.0.0.1 can be taken: {e.strerror}")


def _tools(root: Path) -> Iterator[Finding]:
    for name, env in find_all(root).items():
        if env is None:
            yield Finding(f"tool {name}", "missing", "not installed", f"pao tools install {name}")
        else:
            version = env.version(name) or env.version(spec_of(name).distribution) or "of an unknown version"
            yield Finding(f"tool {name}", "ok", f"{version}, {env.source}")


def _workspace(space: Path) -> Iterator[Finding]:
    """Looked at, not tried: a folder is made by the first run."""
    there = next(p for p in (space, *space.absolute().parents) if p.exists())
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        yield Finding(
            "workspace",
            "ok",
            f"{plain(space)} can be written" + ("" if there == space else ", and is made by the first run"),
        )
    else:
        yield Finding(
            "workspace",
            "missing",
            f"{plain(space)} cannot be written",
            "PAO_CAMPAIGNS_DIR=~/campaigns, or --campaigns-dir",
        )


def _optional() -> Iterator[Finding]:
    for name, (what, command) in PACKAGES.items():
        there = find_spec(name) is not None
        yield (
            Finding(name, "ok", f"{what} works")
            if there
            else Finding(name, "warning", f"{what} does not work", command)
        )
    browser = next((b for b in CHROMIUM if shutil.which(b)), None)
    if browser:
        yield Finding("chromium", "ok", f"{browser}: the tests of the report's page run")
    else:
        yield Finding("chromium", "warning", "only tests of the report's page need it", "apt-get install -y chromium")


OP = Op(
    "doctor", "Show what this machine can do and what is missing, with the command that brings it. Uses no network.", Safety.READ_ONLY,
    DoctorRequest, run, mcp_name="perf_tune_report_doctor", acts=reads, examples=("pao doctor", "pao doctor --json"),
)  # fmt: skip
