"""The evaluations that a gate compares: read from their runs or from the copies in the gate's own, and what sets them apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.argv import last_value
from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.names import digest_of
from profile_and_optimize.evals.conversation import Conversation, conversation_of, left_to_server
from profile_and_optimize.evals.conversation import differences as conversation_differences
from profile_and_optimize.evals.lm_eval import pins_of
from profile_and_optimize.evals.samples import Sample, by_task, questions_digest, read_samples
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.ops.evaluation.keep import SCHEMAS
from profile_and_optimize.ops.gating.texts import Texts, read_texts
from profile_and_optimize.stats.clusters import Clusters, Posed, clusters_of, declared_clusters
from profile_and_optimize.stats.unfinished import Known

UNKNOWN = "unknown"
# How a question was put, per task and for the whole run: where these differ, the scores answer different questions.
OF_TASK = ("metric", "n", "questions_sha256", "fewshot", "version", "kind")
OF_RUN = ("chat", "lm_eval", "worker_sha256")
# Of the engines' flags those that choose the template, what is sent in it, or what a generation_config says. A folder's own template
# and one given by --chat-template are compared by their text.
ASKING_FLAGS = (
    "chat-template-content-format", "default-chat-template-kwargs", "hf-chat-template-name", "completion-template",
    "generation-config", "override-generation-config", "sampling-defaults", "preferred-sampling-params",
    "reasoning-parser", "tokenizer", "tokenizer-path", "tokenizer-mode",
)  # fmt: skip
OF_SAMPLING = ("samples", "temperature", "max_tokens")


@dataclass(frozen=True, slots=True)
class Side:
    """One evaluation: what evaluation.json says, its questions with their scores, and their texts (None where they were not
    recorded)."""

    told: dict[str, Any]
    samples: tuple[Sample, ...]
    texts: Texts | None = None

    def __post_init__(self) -> None:
        """Raises ValueError where the samples are not those that it tells of."""
        found = {t: (len(s), questions_digest(s)) for t, s in by_task(self.samples).items()}
        said = {r["task"]: (r["n"], r["questions_sha256"]) for r in self.told["tasks"]}
        if found != said:
            raise ValueError("its samples are not those of its evaluation.json")
        _ = self.loose, self.asking_flags  # its conversation and its pins are what they should be

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        return {r["task"]: r for r in self.told["tasks"]}

    @property
    def model(self) -> str:
        """A digest where there is one, else the name behind its endpoint, which is no proof of anything."""
        known = self.told.get("model_digest", UNKNOWN)
        return str(known if known != UNKNOWN else f"{self.told.get('served_model')} at {self.told.get('endpoint')}")

    @property
    def scores(self) -> dict[tuple[str, str], Known]:
        """Task and id of every question to its score, as far as it is known."""
        own = {task for task, row in self.tasks.items() if row.get("own_questions") is True}
        return {
            (s.task, s.id): Known(s.mean, *s.bounds(by_equality=s.task in own), cut=s.cut > 0) for s in self.samples
        }

    @property
    def conversation(self) -> Conversation | None:
        """What its folder says of how it is asked; None behind an endpoint, and in records from before it was kept."""
        raw = self.told.get("asked_by")
        return conversation_of(raw) if raw is not None else None

    @property
    def loose(self) -> tuple[str, ...]:
        """Sampling parameters that a request of ours did not decide: its generation_config may have."""
        raw = self.told.get("pins")
        if raw is None:
            return ()
        temperature = (self.told.get("sampling") or {}).get("temperature", 0.0)
        return left_to_server(pins_of(raw), temperature, self.conversation)

    @property
    def asking_flags(self) -> dict[str, str]:
        """The engine's flags that choose how a question is asked."""
        flags = tuple(str(self.serving.get("flags", "")).split())
        found = {name: last_value(flags, name) for name in ASKING_FLAGS}
        return {name: value for name, value in found.items() if value is not None}

    @property
    def clusters(self) -> Clusters:
        """Of the questions in the order asked."""
        if (texts := self.texts) is None:
            return declared_clusters([s.cluster for s in self.samples])
        return clusters_of(tuple(Posed(s.task, texts[s.task, s.id], s.cluster) for s in self.samples))

    @property
    def known(self) -> bool:
        return bool(self.told.get("model_digest", UNKNOWN) != UNKNOWN)

    @property
    def serving(self) -> dict[str, Any]:
        """What chose how it is served; what a server measures of itself differs from start to start."""
        return {k: v for k, v in (self.told.get("engine") or {}).items() if k in ("name", "engine_version", "flags")}

    @property
    def said(self) -> list[tuple[str, str, tuple[str, ...]]]:
        return sorted((s.task, s.id, s.said) for s in self.samples)


def read_side(evaluation: Path, samples: Path, answers: Path) -> Side:
    """Raises Corrupted naming the file."""
    told = read_json(evaluation)
    try:
        if told["schema"] not in SCHEMAS or not told["tasks"]:
            raise ValueError("not an evaluation of schema 1, 2 or 3 with a task that has a score")
        read = read_samples(samples)
        return Side(told, read, read_texts(told, read, answers))
    except (ValueError, TypeError, KeyError, AttributeError) as e:
        raise Corrupted(f"not an evaluation: {e}", where=str(evaluation), next="pao evaluate") from e


def differences(one: Side, two: Side) -> Iterator[str]:
    """Everything that was asked in another way, as a line."""
    if set(one.tasks) != set(two.tasks):
        yield f"tasks: {', '.join(sorted(one.tasks))} against {', '.join(sorted(two.tasks))}"
    for task in sorted(set(one.tasks) & set(two.tasks)):
        yield from _differ(one.tasks[task], two.tasks[task], OF_TASK, f"{task}: ")
    yield from _differ(one.told, two.told, OF_RUN, "")
    drawn = (*OF_SAMPLING, "seed") if any(r.get("fewshot") for r in one.told["tasks"]) else OF_SAMPLING
    if one.told["schema"] == two.told["schema"] and one.texts != two.texts:
        yield "the texts of the questions"
    yield from _differ(one.told.get("sampling") or {}, two.told.get("sampling") or {}, drawn, "sampling: ")


def _differ(one: dict[str, Any], two: dict[str, Any], names: tuple[str, ...], where: str) -> Iterator[str]:
    yield from (f"{where}{n} {one.get(n)!r} against {two.get(n)!r}"[:200] for n in names if one.get(n) != two.get(n))


def asked_apart(base: Side, candidate: Side) -> list[str]:
    """Every difference between chat templates, generation_configs and flags that choose them, as a line."""
    one, two = base.conversation, candidate.conversation
    lines = list(conversation_differences(one, two)) if one is not None and two is not None else []
    flags = sorted({*base.asking_flags, *candidate.asking_flags})
    sides = [
        (name, base.asking_flags.get(name, "not given"), candidate.asking_flags.get(name, "not given"))
        for name in flags
    ]
    return [*lines, *(f"--{name}: {b} for the base, {c} for the candidate" for name, b, c in sides if b != c)]


def same_served(one: Side, two: Side) -> bool:
    """The same weights by the same engine with the same flags. Behind an endpoint nobody can tell, so False."""
    return one.known and one.model == two.model and one.serving == two.serving


def require_comparable(base: Side, candidate: Side, floor: Side | None) -> None:
    """Raises WrongUse with every difference, for a candidate that is the base, and for a floor that is not."""
    for name, side in (("candidate", candidate), ("floor", floor)):
        lines = list(differences(base, side)) if side is not None else []
        if lines:
            raise WrongUse(
                f"base and {name} were not asked the same: {'; '.join(lines)}",
                next="pao evaluate both with the same tasks and options",
            )
    if same_served(base, candidate):
        raise WrongUse(
            "the candidate is the base: the same weights, engine and flags", where="--candidate",
            next="evaluate the candidate; two runs of the base are --base and --floor",
        )  # fmt: skip
    if floor is not None and floor.known and base.known and not same_served(base, floor):
        raise WrongUse(
            "the floor is the base asked once more; this is another model or engine", where="--floor",
            next="pao evaluate the base again, and give that run",
        )  # fmt: skip


def pair_id(base: Side, candidate: Side) -> str:
    """Which comparison this is, whenever and with however many questions it is made."""
    sides = [[s.model, s.serving] for s in (base, candidate)]
    return digest_of({"sides": sides, "tasks": sorted(base.tasks), "chat": base.told.get("chat")})
