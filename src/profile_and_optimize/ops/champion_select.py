"""pao champion_select: the pick and its tier, computed from evidence. What a caller expects is checked, never believed."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from profile_and_optimize.analysis.decide import Decision, decision_json
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.ops.acts import writes
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, evidence_and_decision
from profile_and_optimize.ops.closing import closed
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.workloads.suites import is_present


class ChampionSelectRequest(CampaignRequest):
    top: int = Field(default=3, description="variants to list beside the baseline")
    accuracy_gate: Literal["pass", "fail"] | None = Field(
        default=None, description="expect this result of the accuracy gate"
    )
    same_node: bool = Field(default=False, description="expect that all trials ran on one node")
    trials: int | None = Field(default=None, description="expect this number of whole blocks")
    workloads_present: str | None = Field(default=None, description="expect these workloads, separated by commas")
    expect_tier: Literal["DRAFT", "VERDICT"] | None = Field(default=None, description="expect this tier")


def run(req: ChampionSelectRequest, say: Say) -> Result:
    ev, d = evidence_and_decision(req.path())
    publish(ev, d)
    data: dict[str, Any] = {**decision_json(ev, d), "top": _top(d, req.top)}
    wrong = unmet(req, ev, d)
    refusal = GateRefused("; ".join(wrong), where=ev.run.name, next=f"pao report_render {ev.run}") if wrong else None
    return closed(Result(data, (ev.run / "report.txt").read_text(), ev.damaged, refusal), ev.run)


def unmet(req: ChampionSelectRequest, ev: Evidence, d: Decision) -> list[str]:
    """Where the evidence disagrees with what the caller expects, in words."""
    used = d.counted
    wrong = []
    accuracy = next(x for x in d.gates if x.name == "accuracy")
    if req.accuracy_gate is not None and (accuracy.passed is True) != (req.accuracy_gate == "pass"):
        wrong.append(
            f"expected accuracy gate {req.accuracy_gate}, the evidence gives {_word(accuracy.passed)}: {accuracy.reason}"
        )
    nodes = {t.file.context.get("node", {}).get("observed", "unknown") for t in used}
    if req.same_node and (len(nodes) != 1 or "unknown" in nodes):
        wrong.append(f"expected one node, the evidence has {', '.join(sorted(nodes)) or 'none'}")
    blocks = min(len(d.selection.of_group(ev.plan, group)) for group in ev.plan.groups)
    if req.trials is not None and blocks < req.trials:
        wrong.append(f"expected {req.trials} trials an arm, evidence has {blocks} whole blocks")
    measured = {t.key.point for t in used}
    present = tuple(dict.fromkeys(p.workload for p in ev.plan.points if p.key in measured))
    asked = sorted({w.strip() for w in (req.workloads_present or "").split(",") if w.strip()})
    lacking = [name for name in asked if not is_present(name, present)]
    if lacking:
        has = ", ".join(sorted(f"{w.name} ({w.kind}, {w.isl}/{w.osl})" for w in present))
        wrong.append(f"expected workloads {', '.join(lacking)}, evidence has {has}")
    if req.expect_tier is not None and d.tier.value != req.expect_tier:
        wrong.append(f"expected {req.expect_tier}, the evidence gives {d.tier.value}")
    return wrong


def _word(passed: bool | None) -> str:
    return {True: "pass", False: "fail", None: "unknown"}[passed]


def _top(d: Decision, count: int) -> list[str]:
    ranked = sorted(((e.estimate, a) for a, e in d.effects.items() if e.estimate is not None), reverse=True)
    return [a for _, a in ranked[:count]]


OP = Op(
    "champion_select", "Pick the champion from the evidence, with DRAFT or VERDICT computed.", Safety.WRITES_ARTIFACTS,
    ChampionSelectRequest, run, positional=("campaign",), mcp_name="perf_tune_report_champion_select", acts=writes,
    examples=("pao champion_select my-campaign --top 3",),
)  # fmt: skip
