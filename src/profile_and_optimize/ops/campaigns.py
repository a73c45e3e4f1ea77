"""What the campaign verbs share: making and opening runs, showing commands without running them."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from profile_and_optimize.analysis.decide import Decision, decide
from profile_and_optimize.campaign.evidence_of import Evidence, load_evidence, read_plan
from profile_and_optimize.campaign.session import serve_spec
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.code_settings import NOTHING, Allowance, admitted
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.names import canonical
from profile_and_optimize.core.opens import OUT, RUN
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder, find_run, new_run_id, workspace
from profile_and_optimize.evidence.manifest import UNCLOSED, check_manifest
from profile_and_optimize.evidence.redact import HIDDEN, known_secrets, redact
from profile_and_optimize.evidence.tree import walk
from profile_and_optimize.ops.base import Request
from profile_and_optimize.ops.options import says
from profile_and_optimize.optimize.arms_tsv import arms_tsv
from profile_and_optimize.report.markdown import light
from profile_and_optimize.report.words import plain, verify_command

ARMS = "arms.tsv"


class CampaignRequest(Request):
    """`campaign` is a run's path, id, or unique slug."""

    campaign: Annotated[str, RUN] = Field(description=says("campaign"))
    campaigns_dir: Annotated[str | None, OUT] = Field(default=None, description=says("campaigns_dir"))

    def path(self) -> Path:
        return find_run(self.campaign, workspace(self.campaigns_dir))


def create(
    plan: Plan,
    space: Path,
    source: str,
    config: bytes | None = None,
    clock: Callable[[], float] = time.time,
    allowed: Allowance = NOTHING,
) -> Path:
    """A new run folder with its draft, or none at all when anything is wrong with it: it brings code that nobody allowed, or
    holds a credential. Raises WrongUse when it exists."""
    refuse_credentials(source, (config or b"").decode(errors="replace"), canonical(plan.to_json()).decode())
    plan = admitted(plan, allowed)
    path = space / new_run_id(plan.slug, clock())
    if path.exists():
        raise WrongUse("this run exists already", where=str(path), next="wait a second, or use another name")
    folder = RunFolder(path, clock)
    folder.event("created", slug=plan.slug)
    folder.write("SOURCE.md", source.encode(), producer="campaign_init")
    if not any(a.url for a in plan.arms):  # a table of arms holds no endpoints
        folder.write(ARMS, arms_tsv(plan.arms).encode(), producer="campaign_init")
    if config is not None:
        folder.write("config.yaml", config, producer="campaign_init")
    folder.write_json("draft.json", plan.to_json(), producer="campaign_init", inputs=("config.yaml",) if config else ())
    for arm in plan.arms:
        (path / "cells" / arm.id / "raw").mkdir(parents=True, exist_ok=True)
        (path / "cells" / arm.id / "commands").mkdir(exist_ok=True)
    folder.close()
    return path


def refuse_credentials(*texts: str) -> None:
    """What a run begins with is the user's own, so nothing is taken out of it: the user takes it out. Raises WrongUse."""
    ours = known_secrets(os.environ)
    for text in texts:
        hidden = redact(text, ours)
        if hidden != text:
            at = max(0, hidden.find(HIDDEN) - 30)
            raise WrongUse(
                f"this looks like a credential, which would be written into the run: {' '.join(hidden[at : at + 60].split())}",
                next="take it out; servers are given OPENAI_API_KEY and HF_TOKEN from the environment",
            )  # fmt: skip


def source_text(plan: Plan, how: str) -> str:
    """SOURCE.md. Text from outside stays text in any viewer."""
    arms = "\n".join(
        f"- `{a.id}` ({a.role.value}): {_text(' '.join(a.flags)) or 'engine defaults'} {_text(a.lever)}".rstrip()
        for a in plan.arms
    )
    how = plain(how).replace("`", "'")
    return f"# Source\n\nMade by `{how}`.\n\nModel: {_text(plan.model)}\nModel digest: {plan.model_digest}\n\n## Arms\n\n{arms}\n"


def _text(text: str) -> str:
    return light(plain(text))


def refuse_odd(path: Path) -> None:
    """Nothing is written into a run that holds links or the like: they would lead it elsewhere. Raises Corrupted."""
    odd = walk(path).odd
    if odd:
        raise Corrupted(odd[0], where=str(path), next="remove it; pao verify lists them all")


@contextmanager
def opened(path: Path) -> Iterator[RunFolder]:
    refuse_odd(path)
    folder = RunFolder(path)
    try:
        yield folder
    finally:
        folder.close()


@contextmanager
def resumable(path: Path, command: str) -> Iterator[None]:
    """Ctrl-C, or a polite kill, says what is kept and which command resumes. Raises KeyboardInterrupt with those words."""
    try:
        yield
    except KeyboardInterrupt as e:
        kept = sum(1 for p in path.glob("cells/*/raw/*.json") if not p.name.endswith(".raw.json"))
        trials = f"{kept} finished trial{'' if kept == 1 else 's'}"
        raise KeyboardInterrupt(f"stopped; {trials} kept in {path}; to resume: {command}") from e


def plan_at(path: Path) -> Plan:
    """The frozen plan of a run, or its draft. Raises WrongUse when it is no campaign."""
    for name in ("plan.json", "draft.json"):
        if (path / name).exists():
            return read_plan(path / name)
    raise WrongUse("no plan and no draft there", where=str(path), next="pao campaign_init --config F")


def evidence_and_decision(path: Path) -> tuple[Evidence, Decision]:
    refuse_odd(path)
    ev = load_evidence(path)
    return ev, decide(ev)


def intact(path: Path) -> tuple[Evidence, Decision]:
    """Evidence and decision of a closed run whose files are the bytes that its manifest and journal list. The decision is derived
    from the records, as in `verify`. Raises Corrupted for a damaged run, WrongUse for one that is not closed or no campaign."""
    refuse_odd(path)
    problems = check_manifest(path)
    if problems == [UNCLOSED]:
        raise WrongUse(
            "this run is not closed: it still runs, or was stopped", where=str(path),
            next=f"pao report_render {shlex.quote(str(path))} closes it as it is",
        )  # fmt: skip
    if problems:
        raise _damaged(path, problems)
    if not any((path / name).exists() for name in ("plan.json", "draft.json")):
        raise WrongUse("this run is not a campaign", where=str(path), next=verify_command(str(path)))
    ev, d = evidence_and_decision(path)
    if ev.damaged:
        raise _damaged(path, ev.damaged)
    return ev, d


def _damaged(path: Path, problems: Sequence[str]) -> Corrupted:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return Corrupted(
        f"this run is damaged: {problems[0]}{more}",
        where=str(path),
        next=verify_command(str(path)) + " lists everything",
    )


def shown_command(plan: Plan, arm: Arm, world: World) -> dict[str, Any]:
    """The command of one arm, with PORT where a free one will stand."""
    engine = world.engine(arm.engine)
    command = engine.command(serve_spec(plan, arm, world, Path("engine.log"), 0))
    argv = ["PORT" if before == "--port" else a for before, a in zip(("", *command.argv), command.argv, strict=False)]
    return {"cell": arm.id, "argv": argv, "env": dict(command.env)}


def command_line(shown: dict[str, Any]) -> str:
    env = " ".join(f"{k}={shlex.quote(v)}" for k, v in shown["env"].items())
    return f"{shown['cell']}: {env} {shlex.join(shown['argv'])}".replace("  ", " ")
