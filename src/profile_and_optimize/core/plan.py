"""The plan of a campaign: everything that is fixed before block 1, so that looking cannot change it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from profile_and_optimize.core.cell import Arm, Role, check_arms
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import checked_id, digest_of
from profile_and_optimize.core.near import unknown
from profile_and_optimize.core.settings import refuse_settings
from profile_and_optimize.core.workload import Point, point_from_json

FOCI = ("throughput", "latency", "mixed")
SCHEMA = 2
# What a plan of schema 1 had instead of the fields that came with schema 2.
BEFORE_2: dict[str, Any] = {"proof_blocks": 0, "order": "shuffled"}
ORDERS = ("williams", "shuffled")
# Fewer blocks than this cannot prove a pick, however they come out (see `stats.proof`).
LEAST_PROOF = 8
MAX_ARMS_IN_BLOCK = 4
# The reference distribution is tabled for levels from 1% down to 0.1%, which is 1% shared by ten.
MAX_ALPHA, MAX_CANDIDATES = 0.01, 10
# With a race before it, a confirmation holds this many; a race may begin with that many.
FINALISTS, MAX_RACED = 3, 2000
SLO_METRICS = ("ttft", "tpot", "itl", "e2e_latency")


@dataclass(frozen=True, slots=True)
class Plan:
    """`blocks` is the most blocks a group of arms gets before it is extended (0 in a draft: the budget will fix it); a
    group stops earlier when a look has answered for all its arms.

    `alpha` is the one-sided error of the campaign. `race_rounds` above 0: the candidates race first, at most so many
    rounds, and at most three are confirmed on fresh blocks; `raced` are those that left (see `campaign.race`).
    `race_sd` is the noise of one session that the race assumes before it has seen any. `slo`: metric name and the most
    seconds its p99 may take. `code_allowed`: name and who allowed it, of every setting that brings code (`code_settings`).

    `margin` and `non_inferiority` are ratios (0.01 is 1%). `groups` are the arm ids of each kind of block, the
    baseline first. `primary` names the metrics whose log ratios are averaged. `gap_limit_s`: a block whose
    sessions lie further apart than this was broken by a gap. `failed` are arms
    that did not pass admission: they stay visible and take no part. `proof_blocks` is the most blocks that the proof of the
    pick may have (0: none, the pick stays a DRAFT; see `campaign.proof`). `order`: how the sessions of a block are ordered,
    by Williams squares or, in plans of schema 1, at random. `start_limit_s` above 0: where the baseline is not ready after so many
    seconds, every arm is started with `slow_start_flags` too, which make a start cheaper. `vendor` is the arm whose checkpoint
    somebody else made of the same model: the incumbent among the quantized ones."""

    slug: str
    model: str
    focus: str
    arms: tuple[Arm, ...]
    points: tuple[Point, ...]
    blocks: int
    seed: int
    suite: str = "demo"
    alpha: float = 0.01
    margin: float = 0.01
    non_inferiority: float = 0.03
    failure_rate_limit: float = 0.01
    pooling: str = "anova-max"
    gap_limit_s: float = 900.0
    retries: int = 2
    budget_s: float = 0.0
    common_flags: tuple[str, ...] = ()
    common_env: tuple[tuple[str, str], ...] = ()
    tokenizer: str = ""
    model_digest: str = "unknown"
    questions: str = ""
    accuracy_margin: float = 0.02
    failed: tuple[Arm, ...] = ()
    client: str = "stream"
    race_rounds: int = 0
    race_sd: float = 0.02
    raced: tuple[Arm, ...] = ()
    slo: tuple[tuple[str, float], ...] = ()
    vendor: str = ""
    proof_blocks: int = 0
    order: str = "williams"
    schema: int = SCHEMA
    code_allowed: tuple[tuple[str, str], ...] = ()
    start_limit_s: float = 0.0
    slow_start_flags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        checked_id(self.slug, "campaign")
        check_arms(self.arms)
        refuse_settings((*self.common_flags, *self.slow_start_flags), self.common_env, "common flags and env")
        if not 0 <= self.start_limit_s < 1e6 or bool(self.start_limit_s) != bool(self.slow_start_flags):
            raise WrongUse("a limit for starts is a number of seconds, and needs the flags that make a start cheaper")
        if self.focus not in FOCI:
            raise WrongUse(f"focus {self.focus!r} is not one of {', '.join(FOCI)}")
        if not self.points:
            raise WrongUse("a campaign needs at least one workload")
        if self.blocks < 0 or not 0 < self.alpha <= MAX_ALPHA or not 0 <= self.margin < 1:
            raise WrongUse("blocks must not be negative, alpha at most 0.01, margin in [0, 1)")
        most = MAX_RACED if self.race_rounds else MAX_CANDIDATES
        if len(self.candidates) > most:
            raise WrongUse(f"{len(self.candidates)} candidates; at most {most} in one campaign")
        if self.race_rounds < 0 or not 0 < self.race_sd < 1:
            raise WrongUse("race rounds must not be negative, and the race's noise lies between 0 and 1")
        for name, limit in self.slo:
            if name not in SLO_METRICS or not 0 < limit < 1e6:
                raise WrongUse(f"SLO {name} {limit!r}: a limit in time for one of {', '.join(SLO_METRICS)}")
        keys = [p.key for p in self.points]
        if len(set(keys)) < len(keys):
            raise WrongUse(
                f"two workloads with the same name and load: {', '.join(sorted(k for k in set(keys) if keys.count(k) > 1))}"
            )
        if self.vendor and not any(a.id == self.vendor and a.checkpoint for a in self.all_arms):
            raise WrongUse(f"the vendor's arm {self.vendor!r} serves no checkpoint of its own")
        if self.proof_blocks != 0 and self.proof_blocks < LEAST_PROOF:
            raise WrongUse(f"{self.proof_blocks} proof blocks cannot prove a pick; 0 or at least {LEAST_PROOF}")
        if self.order not in ORDERS or self.schema not in (1, SCHEMA):
            raise WrongUse(
                f"order {self.order!r}, schema {self.schema}: one of {', '.join(ORDERS)}, schema 1 or {SCHEMA}"
            )
        if not 0 <= self.budget_s < 1e9:
            raise WrongUse("the budget must be a number of minutes")

    @property
    def baseline(self) -> Arm:
        return next(a for a in self.arms if a.role is Role.BASELINE)

    @property
    def twin(self) -> Arm | None:
        return next((a for a in self.arms if a.role is Role.AA), None)

    @property
    def pick_twin(self) -> Arm | None:
        """The one candidate, or the pick under proof, served a second time; None in the exploration of several candidates."""
        return next((a for a in self.arms if a.role is Role.PICK_TWIN), None)

    @property
    def candidates(self) -> tuple[Arm, ...]:
        return tuple(a for a in self.arms if a.role is Role.CANDIDATE)

    @property
    def rivals(self) -> tuple[tuple[str, str], ...]:
        """(ours, the vendor's) of every quantized arm of ours that stands in a block with the vendor's: compared with each
        other too, and counted in the family of tests."""
        group = next((g for g in self.groups if self.vendor in g), ())
        ours = [a.id for a in self.candidates if a.checkpoint and a.id != self.vendor and a.id in group]
        return tuple((a, self.vendor) for a in ours)

    def sharing(self, arm: Arm) -> tuple[str, ...]:
        """The ids of all arms that serve this arm's checkpoint, whatever their flags: one job made it for all of them."""
        return tuple(a.id for a in self.all_arms if arm.checkpoint and a.checkpoint == arm.checkpoint)

    def model_of(self, arm: Arm) -> str:
        return arm.checkpoint or self.model

    def digest_of(self, arm: Arm) -> str:
        """The content digest of the weights that an arm serves."""
        return arm.checkpoint_digest if arm.checkpoint else self.model_digest

    @property
    def all_arms(self) -> tuple[Arm, ...]:
        return self.arms + self.raced + self.failed

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Arm ids per kind of block: baseline, the A/A arm, and as many candidates as still fit in four."""
        fixed = [self.baseline.id] + ([self.twin.id] if self.twin else [])
        if self.pick_twin:
            return (tuple(fixed + [a.id for a in self.candidates] + [self.pick_twin.id]),)
        room = MAX_ARMS_IN_BLOCK - len(fixed)
        ids = [a.id for a in self.candidates]
        parts = [ids[i : i + room] for i in range(0, len(ids), room)] or [[]]
        return tuple(tuple(fixed + part) for part in parts)

    @property
    def total_blocks(self) -> int:
        return self.blocks * len(self.groups)

    @property
    def sessions(self) -> int:
        return self.blocks * sum(len(g) for g in self.groups)

    @property
    def primary(self) -> tuple[str, ...]:
        return {"throughput": ("output_throughput",), "latency": ("tpot",), "mixed": ("output_throughput", "tpot")}[
            self.focus
        ]

    def arm(self, arm_id: str) -> Arm:
        found = next((a for a in self.all_arms if a.id == arm_id), None)
        if found is None:
            raise WrongUse(unknown("cell", arm_id, [a.id for a in self.arms]), next="pao campaign_run RUN --dry-run")
        return found

    def group_of_block(self, block: int) -> tuple[str, ...]:
        """Blocks (from 1) go round the groups in turn, so drift falls on all groups alike."""
        return self.groups[(block - 1) % len(self.groups)]

    def less(self, failed: frozenset[str]) -> Plan:
        """The plan with those arms moved to `failed`. Raises WrongUse if the baseline is among them."""
        gone = tuple(a for a in self.arms if a.id in failed)
        return replace(self, arms=tuple(a for a in self.arms if a.id not in failed), failed=self.failed + gone)

    def confirming(self, finalists: tuple[str, ...]) -> Plan:
        """The plan of the confirmation: baseline, A/A arm and the finalists of the race; the others are in `raced`."""
        stay = {self.baseline.id, *([self.twin.id] if self.twin else []), *finalists}
        if not finalists or len(finalists) > FINALISTS:
            raise WrongUse(f"{len(finalists)} finalists; a race ends with 1 to {FINALISTS}")
        gone = tuple(a for a in self.arms if a.id not in stay)
        return replace(self, arms=tuple(a for a in self.arms if a.id in stay), raced=self.raced + gone)

    def proving(self, pick: str) -> Plan:
        """The plan of the proof: baseline, A/A arm, the pick and its twin; the others are in `raced`. Raises WrongUse."""
        if self.pick_twin is not None:
            return self
        arm = self.arm(pick)
        stay = {self.baseline.id, pick, *([self.twin.id] if self.twin else [])}
        gone = tuple(a for a in self.arms if a.id not in stay)
        kept = tuple(a for a in self.arms if a.id in stay)
        return replace(self, arms=(*kept, twin_of(arm, self)), raced=self.raced + gone, vendor="")

    def to_json(self) -> dict[str, Any]:
        """As it lies on disk: in the schema it was written in, so that its digest stays what it was."""
        data = asdict(self)
        if not self.code_allowed:  # as every plan without such settings was written
            del data["code_allowed"]
        if not self.start_limit_s:
            del data["start_limit_s"], data["slow_start_flags"]
        return data if self.schema > 1 else {k: v for k, v in data.items() if k not in BEFORE_2}

    def hurried(self) -> Plan:
        """With the flags that make a start cheaper on every arm."""
        flags = (*self.common_flags, *self.slow_start_flags)
        return replace(self, common_flags=flags, start_limit_s=0.0, slow_start_flags=())

    @property
    def digest(self) -> str:
        return digest_of(self.to_json())


def twin_of(arm: Arm, plan: Plan) -> Arm:
    """The arm once more, under a name that no other arm has."""
    taken, name = {a.id for a in plan.all_arms}, f"{arm.id}-again"
    while name in taken:
        name += "-again"
    return replace(arm, id=name, role=Role.PICK_TWIN, lever="", predicts="", predicted=None)


def plan_from_json(data: dict[str, Any]) -> Plan:
    """The inverse of Plan.to_json. Raises WrongUse on a schema that this version does not know."""
    data = dict(data)
    if data.get("schema") not in (1, SCHEMA):
        raise WrongUse(
            f"this plan has schema {data.get('schema')!r}; known are 1 to {SCHEMA}: use the version that wrote it"
        )
    if data["schema"] == 1:
        data |= BEFORE_2
    arms, failed, raced = (tuple(_arm(a) for a in data.pop(name)) for name in ("arms", "failed", "raced"))
    data["slo"] = tuple((name, limit) for name, limit in data["slo"])
    points = tuple(point_from_json(p) for p in data.pop("points"))
    data["common_flags"] = tuple(data["common_flags"])
    data["slow_start_flags"] = tuple(data.get("slow_start_flags", ()))
    data["common_env"] = tuple((k, v) for k, v in data["common_env"])
    data["code_allowed"] = tuple((name, by) for name, by in data.get("code_allowed", ()))
    return Plan(arms=arms, failed=failed, raced=raced, points=points, **data)


def _arm(data: dict[str, Any]) -> Arm:
    data = {
        **data,
        "role": Role(data["role"]),
        "flags": tuple(data["flags"]),
        "env": tuple((k, v) for k, v in data["env"]),
    }
    data["predicted"] = tuple(data["predicted"]) if data["predicted"] else None
    return Arm(**data)
