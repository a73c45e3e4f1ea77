"""The phase objects of `optimize` that exist so far: 0 scaffold, 1 baseline, 3 tune, 8 bench, 8.4 champion, 8.5 synthesize; 4
and 5 are in `quantized`."""

from __future__ import annotations

from dataclasses import dataclass

from profile_and_optimize.analysis.decide import decide, ratio_words
from profile_and_optimize.campaign import conduct
from profile_and_optimize.campaign.evidence_of import load_evidence, read_plan
from profile_and_optimize.campaign.phase import GateResult, Phase
from profile_and_optimize.campaign.world import World
from profile_and_optimize.core.errors import GateRefused
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.folder import RunFolder
from profile_and_optimize.optimize.publish import publish
from profile_and_optimize.optimize.quantized import Quantize, Validate
from profile_and_optimize.report.pages.source import Options


@dataclass(frozen=True)
class Scaffold:
    """Folder, draft plan, the intent stated back; flags the engine lacks are refused here."""

    draft: Plan | None
    number: str = "0"
    title: str = "scaffold"
    needs: tuple[str, ...] = ()
    writes: tuple[str, ...] = ("draft.json",)

    def run(self, folder: RunFolder, world: World) -> GateResult:
        plan = conduct.open_draft(folder, self.draft) if self.draft else read_plan(folder.path / "draft.json")
        conduct.check_flags(plan, world)
        names = ", ".join(a.id for a in plan.arms)
        world.say(f"intent: {plan.model}, focus {plan.focus} ({' and '.join(plan.primary)}), suite {plan.suite!r}")
        world.say(
            f"        arms {names}; margin {plan.margin:.0%}, error {plan.alpha:.0%} one-sided for the whole campaign"
        )
        world.say(
            "        "
            + "; ".join(f"{p.workload.isl} in, {p.workload.osl} out at c={p.concurrency}" for p in plan.points)
        )
        world.say(f"        budget {plan.budget_s / 60:.0f} min; folder {folder.path}")
        starts = f"{len(plan.arms)} server starts, which measure what a block costs"
        world.say(f"cost:   first every arm once ({starts}); the blocks' cost is stated before the first of them")
        return GateResult(True, "draft written")


@dataclass(frozen=True)
class Baseline:
    """Every arm once: deploy, smoke, accuracy; then the cost is stated and the number of blocks fixed."""

    number: str = "1"
    title: str = "baseline"
    needs: tuple[str, ...] = ("draft.json",)
    writes: tuple[str, ...] = ("plan.json",)

    def run(self, folder: RunFolder, world: World) -> GateResult:
        try:
            plan = conduct.admit(folder, world)
        except GateRefused as e:
            return GateResult(False, f"{e.where}: {e.message}", e.next)
        return GateResult(True, f"{len(plan.arms)} arms serve, {len(plan.failed)} do not")


@dataclass(frozen=True)
class Tune:
    """The blocks: every arm of a group restarted in each, in random order."""

    number: str = "3"
    title: str = "tune"
    needs: tuple[str, ...] = ("plan.json",)
    writes: tuple[str, ...] = ("cells/*/raw/b*.json",)

    def run(self, folder: RunFolder, world: World) -> GateResult:
        plan = read_plan(folder.path / "plan.json")
        selection = conduct.run(folder, plan, world)
        return GateResult(True, f"{len(selection.blocks)} whole blocks, {len(selection.excluded)} excluded")


@dataclass(frozen=True)
class Bench:
    """The arms' own suite, measured in the same sessions, as atlas rows."""

    number: str = "8"
    title: str = "bench the suite"
    needs: tuple[str, ...] = ("plan.json",)
    writes: tuple[str, ...] = ("atlas.jsonl",)

    def run(self, folder: RunFolder, world: World) -> GateResult:
        ev = load_evidence(folder.path)
        publish(ev, decide(ev))
        return GateResult(True, f"suite {ev.plan.suite!r}, {len(ev.trials)} trials")


@dataclass(frozen=True)
class Champion:
    """The pick, its tier from the gates, and the report."""

    number: str = "8.4"
    title: str = "champion and report"
    needs: tuple[str, ...] = ("atlas.jsonl",)
    writes: tuple[str, ...] = ("champion_select.json", "CHAMPION.md", "report.html", "report.pdf")

    def run(self, folder: RunFolder, world: World) -> GateResult:
        ev = load_evidence(folder.path)
        d = decide(ev)
        publish(ev, d, Options())
        effect = d.effects.get(d.pick)
        return GateResult(
            True, f"{d.tier}: {d.pick}" + (f", {ratio_words(effect)}" if effect else ", the baseline stands")
        )


@dataclass(frozen=True)
class Synthesize:
    """What was learned: predictions scored, the known-good config, the next lever; a run closes with both files."""

    number: str = "8.5"
    title: str = "synthesize"
    needs: tuple[str, ...] = ("champion_select.json",)
    writes: tuple[str, ...] = ("HANDOFF.md", "known_good_config.json")

    def run(self, folder: RunFolder, world: World) -> GateResult:
        missing = [name for name in self.writes if not (folder.path / name).exists()]
        if missing:
            return GateResult(False, f"not written: {', '.join(missing)}", f"pao report_render {folder.path}")
        return GateResult(True, "next levers in HANDOFF.md, configuration in known_good_config.json")


def road(draft: Plan | None, quantize: Quantize | None = None, checkpoints: bool = False) -> tuple[Phase, ...]:
    """Phases 4 and 5 where arms serve checkpoints of their own. What is to be quantized is made before anything is measured,
    so that one campaign holds every arm: shared blocks, and one family of tests."""
    made: tuple[Phase, ...] = (quantize,) if quantize else ()
    judged: tuple[Phase, ...] = (Validate(),) if checkpoints else ()
    return (Scaffold(draft), *made, Baseline(), Tune(), *judged, Bench(), Champion(), Synthesize())


def walk(phases: tuple[Phase, ...], folder: RunFolder, world: World) -> None:
    """Every phase in turn. Raises GateRefused at the first red gate, with its reason and what to do."""
    for phase in phases:
        world.say(f"phase {phase.number} {phase.title}")
        lacking = [n for n in phase.needs if not (folder.path / n).exists()]
        if lacking:
            raise GateRefused(
                f"phase {phase.number} needs {', '.join(lacking)}",
                where=str(folder.path),
                next=f"pao optimize --resume {folder.path}",
            )
        result = phase.run(folder, world)
        if not result.passed:
            raise GateRefused(result.reason, where=f"phase {phase.number} {phase.title}", next=result.next)
        world.say(f"  gate {phase.number} passed: {result.reason}")
