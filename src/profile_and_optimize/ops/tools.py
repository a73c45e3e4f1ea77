"""pao tools list | install: the environments that heavy tools live in."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.ops.acts import Act, Acts
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.options import says
from profile_and_optimize.ops.plugins import KINDS, SWITCH, installed, switched_off
from profile_and_optimize.ops.started import by_fields
from profile_and_optimize.toolenv.find import ToolEnv, default_root, find_all
from profile_and_optimize.toolenv.install import install
from profile_and_optimize.toolenv.preflight import check
from profile_and_optimize.toolenv.specs import spec_of
from profile_and_optimize.toolenv.world import observe


class ToolsRequest(Request):
    action: Literal["list", "install", "check"] = Field(
        description="list the tools, install one, or check whether it could be installed"
    )
    tool: str | None = Field(default=None, description="tool to install or check; pao tools list names them")
    tools_dir: Annotated[str | None, OUT] = Field(default=None, description=says("tools_dir"))


def acts(req: ToolsRequest) -> Acts:
    """An installation downloads packages and asks them what they are."""
    return frozenset({Act.WRITES, Act.LONG, Act.CODE}) if req.action == "install" else frozenset()


def run(req: ToolsRequest, say: Say) -> Result:
    root = Path(req.tools_dir) if req.tools_dir else default_root()
    if req.action == "list":
        return _list(root)
    if req.tool is None:
        raise WrongUse(f"{req.action} what?", where="pao tools", next=f"pao tools {req.action} vllm")
    findings = check(observe(target=root, python=Path(sys.executable)), spec_of(req.tool))
    if req.action == "check":
        data = [{"name": f.name, "severity": f.severity, "message": f.message, "command": f.command} for f in findings]
        return Result({"findings": data}, "\n".join(f"{f.severity:8} {f.name}: {f.message}" for f in findings))
    for finding in findings:
        if finding.severity == "warning":
            say(f"warning: {finding.message}" + (f" ({finding.command})" if finding.command else ""))
    env = install(req.tool, root=root, say=say)
    return Result({"tool": _row(req.tool, env)}, f"{req.tool}: {env.python}")


def _list(root: Path) -> Result:
    rows = [_row(name, env) for name, env in find_all(root).items()]
    text = "\n".join(
        f"{r['tool']:12} {r['version'] or 'not installed'}  {r['python'] or 'pao tools install ' + str(r['tool'])}"
        for r in rows
    )
    plugins = [asdict(p) for kind in KINDS for p in installed(kind)]
    off = switched_off()
    lines = [f"plugin   {p['kind']} {p['name']}  {p['target']} of {p['package']} {p['version']}" for p in plugins]
    note = [f"plugins are ignored: {SWITCH} is set"] if off and plugins else []
    data = {"root": str(root), "tools": rows, "plugins": plugins, "plugins_ignored": off}
    return Result(data, "\n".join([text, *lines, *note]))


def _row(name: str, env: ToolEnv | None) -> dict[str, str | None]:
    if env is None:
        return {"tool": name, "version": None, "python": None, "source": None, "lock": None}
    return {
        "tool": name,
        "version": env.version(name) or env.version(spec_of(name).distribution),
        "python": str(env.python),
        "source": env.source,
        "lock": env.lock_digest,
    }


OP = Op(
    "tools", "List, check for, or install the environments of heavy tools. The list names plugins of other packages too.",
    Safety.SUBMITS_JOBS, ToolsRequest, run,
    positional=("action", "tool"), mcp_name="tools", acts=acts, started=by_fields,
    examples=("pao tools install vllm", "pao tools install aiperf"),
)  # fmt: skip
