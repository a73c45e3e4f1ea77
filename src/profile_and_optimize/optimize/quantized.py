"""Phases 4 and 5 of `optimize`: quantize, and validate what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from profile_and_optimize.analysis.decide import decide
from profile_and_optimize.analysis.three_way import verdicts
from profile_and_optimize.campaign.evidence_of import load_evidence, read_plan
from profile_and_optimize.campaign.phase import GateResult
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.quant.checkpoint import read_checkpoint

# Makes one checkpoint in its place, or finds it finished there; shows its progress.
Maker = Callable[[Callable[[str], None]], None]


@dataclass(frozen=True)
class Quantize:
    """`makers` by arm. Gate: each checkpoint lies in its place and says how it is quantized."""

    makers: Mapping[str, Maker]
    number: str = "4"
    title: str = "quantize"
    needs: tuple[str, ...] = ("draft.json",)
    writes: tuple[str, ...] = ()

    def run(self, folder: RunFolder, world: World) -> GateResult:
        plan = read_plan(folder.path / "draft.json")
        said = []
        for arm, make in self.makers.items():
            world.say(f"  {arm}: {plan.arm(arm).checkpoint}")
            try:
                make(world.say)
            except GateRefused as e:
                return GateResult(False, f"{arm}: {e.message}", e.next)
            method = read_checkpoint(Path(plan.arm(arm).checkpoint)).quant_method
            if method is None:
                return GateResult(False, f"{arm}: its config.json names no quantization", "read the job's log")
            said.append(f"{arm} is {method}")
        return GateResult(True, ", ".join(said))


@dataclass(frozen=True)
class Validate:
    """Answers and speed of every checkpoint against the base. A checkpoint that loses right answers left at admission, and the
    run goes on: the report says that it does not ship, and the pick is another."""

    number: str = "5"
    title: str = "validate quality and speed"
    needs: tuple[str, ...] = ("plan.json",)
    writes: tuple[str, ...] = ()

    def run(self, folder: RunFolder, world: World) -> GateResult:
        ev = load_evidence(folder.path)
        found = verdicts(ev, decide(ev))
        for v in found:
            world.say(f"  {v.ours}: {v.call} ({v.tier.value}): {v.why}")
        return GateResult(True, f"{len(found)} checkpoints judged: " + ", ".join(f"{v.ours} {v.call}" for v in found))
