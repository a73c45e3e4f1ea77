"""The campaign file people write, and the plan it means. Unknown keys are refused by name."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import slug
from profile_and_optimize.core.opens import FLAGS, MODEL, PATH, URL
from profile_and_optimize.core.plan import FINALISTS, Plan
from profile_and_optimize.core.workload import LEAST_OPEN, WARMUP_SLOTS, Point, Workload
from profile_and_optimize.engines.urls import checked_url
from profile_and_optimize.evals.exact_match import questions_file
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.ops.fits import max_length, require_fit
from profile_and_optimize.ops.model import check_model
from profile_and_optimize.quant.served_as import require_agreeing
from profile_and_optimize.workloads.spec import WorkloadSpec
from profile_and_optimize.workloads.suites import Entry, chosen_points, entries_of, found_points, named

DEFAULT_CONCURRENCY = 8
OPEN_S = 30.0  # of an open loop whose requests are not given
RACE_ROUNDS = 4
MOST_BYTES = 1 << 20
MOST_KEYS = 10_000
_MERGE = "tag:yaml.org,2002:merge"
_NEGATIVE = re.compile(r"-[\d.]+")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CellConfig(_Strict):
    """`flags` is a list of arguments or a mapping of option to value (true for a bare flag)."""

    cell_id: str
    role: Literal["baseline", "aa", "candidate"] = "candidate"
    engine: str | None = None
    flags: Annotated[list[str] | dict[str, Any], FLAGS] = Field(default_factory=list)
    env: Annotated[dict[str, str], FLAGS] = Field(default_factory=dict)
    lever: str = ""
    predicts: str = ""
    predicted: tuple[float, float] | None = None
    url: Annotated[str, URL] = ""
    checkpoint: Annotated[str, MODEL] = ""


class SloConfig(_Strict):
    """The most milliseconds the p99 of a latency may take."""

    ttft_ms: float | None = Field(default=None, gt=0)
    tpot_ms: float | None = Field(default=None, gt=0)
    itl_ms: float | None = Field(default=None, gt=0)
    e2e_latency_ms: float | None = Field(default=None, gt=0)

    def limits(self) -> tuple[tuple[str, float], ...]:
        """Metric name and seconds."""
        given = {name.removesuffix("_ms"): value for name, value in self.model_dump().items()}
        return tuple((name, value / 1e3) for name, value in sorted(given.items()) if value is not None)


class CampaignConfig(_Strict):
    name: str
    model: Annotated[str, MODEL]
    engine: str = "vllm"
    focus: Literal["throughput", "latency", "mixed"] = "throughput"
    suite: str | None = None
    workloads: list[WorkloadSpec] = Field(default_factory=list)
    data: Annotated[dict[str, str], PATH] = Field(default_factory=dict)
    concurrencies: list[int] | None = None
    request_rates: list[float] = Field(default_factory=list)
    requests: int | None = None
    blocks: int | None = Field(default=None, ge=2)
    proof_blocks: int = Field(default=16, ge=0, le=100)
    budget_minutes: float = Field(default=30.0, gt=0, le=1e6)
    margin: float = 0.01
    alpha: float = 0.01
    seed: int | None = None
    questions: Annotated[str | None, PATH] = None
    tokenizer: Annotated[str | None, MODEL] = None
    common_flags: Annotated[list[str] | dict[str, Any], FLAGS] = Field(default_factory=list)
    common_env: Annotated[dict[str, str], FLAGS] = Field(default_factory=dict)
    engine_flags: Annotated[dict[str, list[str] | dict[str, Any]], FLAGS] = Field(default_factory=dict)
    client: Literal["stream", "vllm-bench", "aiperf", "guidellm"] = "stream"
    race: bool | None = None
    race_rounds: int = Field(default=RACE_ROUNDS, ge=1, le=20)
    slo: SloConfig = Field(default_factory=SloConfig)
    vendor: str = ""
    tolerance_points: float = Field(default=2.0, gt=0, le=100)
    cells: list[CellConfig]


def load_config(path: Path) -> CampaignConfig:
    """Raises WrongUse naming file, key and what is wrong."""
    return config_of(read_given(path, MOST_BYTES), path)


def config_of(text: bytes, path: Path) -> CampaignConfig:
    """Of a file's bytes; `path` is its name in errors, which are those of `load_config`."""
    try:
        data = read_yaml(text)
    except (yaml.YAMLError, ValueError) as e:
        raise WrongUse(f"not YAML: {str(e).splitlines()[0]}", where=str(path), next="correct the file") from e
    if not isinstance(data, dict):
        raise WrongUse("not a mapping", where=str(path), next="see docs/campaign.md for the keys")
    try:
        return CampaignConfig(**data)
    except (ValidationError, TypeError) as e:
        raise WrongUse(
            first_problem(e), where=str(path), next="correct the file; docs/campaign.md lists the keys"
        ) from e


class _Loader(yaml.SafeLoader):
    """Plain values only. A few lines of merge keys (`<<`) can stand for billions of entries: those are refused."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        merged = [value for key, value in node.value if key.tag == _MERGE]
        parts = [p for m in merged for p in (m.value if isinstance(m, yaml.SequenceNode) else [m])]
        for part in parts:
            if isinstance(part, yaml.MappingNode):
                self.flatten_mapping(part)
        if sum(len(p.value) for p in parts) > MOST_KEYS:
            raise yaml.constructor.ConstructorError(None, None, "merge keys make too many entries", node.start_mark)
        super().flatten_mapping(node)


def read_yaml(data: bytes) -> Any:
    """The one value of a YAML text. Raises yaml.YAMLError, and ValueError for what is no text or nested too deeply."""
    try:
        return yaml.load(data.decode(), _Loader)  # a subclass of SafeLoader
    except RecursionError:
        raise ValueError("nested too deeply") from None


def first_problem(e: ValidationError | TypeError) -> str:
    """In words of ours: the exception's own text would print the whole input, which aliases can make endless."""
    if isinstance(e, TypeError):
        return "a key is not text"
    first = e.errors()[0]
    where = ".".join(str(p) for p in first["loc"])
    return f"unknown key {where!r}" if first["type"] == "extra_forbidden" else f"{where}: {first['msg']}"


def plan_of(config: CampaignConfig, *, at: float, say: Callable[[str], None] = lambda _: None) -> Plan:
    """The draft plan of a campaign file. Relative paths are taken from the current folder.

    Raises WrongUse, and Unreachable where a data set is not to be had.
    """
    local_engines = {c.engine or config.engine for c in config.cells}
    if strange := sorted(config.engine_flags.keys() - local_engines):
        raise WrongUse(f"no cell has the engine {', '.join(strange)}", where="engine_flags", next="correct the file")
    real = bool(local_engines - {"mock", "endpoint", "fake"})
    model = check_model(config.model) if real else config.model
    fixed = fixed_by_config(config)
    _require_one_osl(fixed["points"], config.client)
    for arm in fixed["arms"]:
        require_agreeing(arm, fixed["common_flags"])
    for cell in config.cells:
        if real:
            flags = (*fixed["common_flags"], *_flags(cell, config))
            require_fit(
                fixed["points"],
                max_length(model, flags),
                f"cell {cell.cell_id} of {model}",
                take="workloads: with the names",
            )
    return Plan(**{
        "model": model, "seed": fresh_seed(at), "tokenizer": config.tokenizer or (model if real else ""),
        "questions": questions_file(Path(config.questions)) if config.questions else "",
        "model_digest": model_digest(model) if real else "unknown", **fixed,
        "points": found_points(fixed["points"], say),
    })  # fmt: skip


def _require_one_osl(points: tuple[Point, ...], client: str) -> None:
    """Raises WrongUse, before anything starts, for a client that asks the same length of every answer."""
    varied = [p.workload.name for p in points if not p.workload.one_osl]
    if varied and client == "vllm-bench":
        raise WrongUse(
            f"vllm bench serve takes one osl for all prompts; {', '.join(dict.fromkeys(varied))} has many",
            where="client", next="client: stream, or other workloads",
        )  # fmt: skip


def fixed_by_config(config: CampaignConfig) -> dict[str, Any]:
    """The fields of the draft that the file fixes by itself, whatever lies beside it."""
    fixed: dict[str, Any] = {
        "slug": slug(config.name), "focus": config.focus, "arms": tuple(_arm(c, config) for c in config.cells),
        "points": chosen_points(points_of(_entries(config), config), config.data), "blocks": config.blocks or 0,
        "proof_blocks": config.proof_blocks,
        "suite": config.suite or ("own" if config.workloads else "demo"),
        "alpha": config.alpha, "margin": config.margin, "budget_s": config.budget_minutes * 60,
        "common_flags": flag_list(config.common_flags), "common_env": tuple(sorted(config.common_env.items())),
        "client": config.client,
        "race_rounds": rounds_of(config.race, config.race_rounds, len([c for c in config.cells if c.role == "candidate"])),
        "slo": config.slo.limits(), "vendor": config.vendor, "accuracy_margin": config.tolerance_points / 100,
    }  # fmt: skip
    return fixed | ({} if config.seed is None else {"seed": config.seed})


def rounds_of(race: bool | None, rounds: int, candidates: int) -> int:
    """Rounds of the race; it is run when asked for, and by itself when more arms stand than a confirmation may hold."""
    wanted = candidates > FINALISTS if race is None else race
    return rounds if wanted else 0


def points_of(entries: Sequence[Entry | Workload], config: CampaignConfig) -> tuple[Point, ...]:
    """Each workload at each concurrency and each request rate: its own, the file's, its suite's, in this order.

    Raises WrongUse for rates with a focus on throughput.
    """
    if config.request_rates and config.focus != "latency":
        raise WrongUse(
            "an open loop's throughput is what was asked of it, whatever the server can do",
            where="request_rates", next="focus: latency, or concurrencies",
        )  # fmt: skip
    known = [e if isinstance(e, Entry) else Entry(e, (DEFAULT_CONCURRENCY,), 4 * DEFAULT_CONCURRENCY) for e in entries]
    closed = [p for e in known for p in _closed(e, config)]
    return (*closed, *(_open_point(e.workload, rate, config.requests) for e in known for rate in config.request_rates))


def _closed(entry: Entry, config: CampaignConfig) -> list[Point]:
    own = next((w for w in config.workloads if w.name == entry.workload.name), None)
    slots = own.concurrencies if own and own.concurrencies else config.concurrencies
    requests = own.requests if own and own.requests else config.requests
    if slots is None:
        return [] if config.request_rates else list(entry.points(None, requests))
    return [p for c in slots for p in entry.points(c, requests)]


def _open_point(workload: Workload, rate: float, requests: int | None) -> Point:
    return Point(workload, WARMUP_SLOTS, requests or max(LEAST_OPEN, math.ceil(rate * OPEN_S)), rate)


def fresh_seed(at: float) -> int:
    return random.Random(at).randrange(2**31)


def flag_list(flags: list[str] | dict[str, Any]) -> tuple[str, ...]:
    """Arguments as a tuple. A mapping's keys become options; true is a bare flag, false leaves it out."""
    if isinstance(flags, list):
        return tuple(str(f) for f in flags)
    out: list[str] = []
    for name, value in flags.items():
        option = name if name.startswith("--") else "--" + name.replace("_", "-")
        out += [] if value is False else [option] if value is True else [option, _value(option, value)]
    return tuple(out)


def _value(option: str, value: object) -> str:
    """A value as one argument. One that begins with a dash would be read as the next option."""
    if not isinstance(value, str | int | float):
        raise WrongUse("its value is neither text nor a number", where=option, next="write JSON as quoted text")
    text = str(value)
    if text.startswith("-") and isinstance(value, str) and not _NEGATIVE.fullmatch(text):
        raise WrongUse(f"its value {text[:80]!r} starts with '-'", where=option, next="give flags as a list")
    return text


def _entries(config: CampaignConfig) -> tuple[Entry, ...]:
    """The workloads of the file, and those of its suite that it does not name itself."""
    own = tuple(_entry(w) for w in config.workloads)
    names = {e.workload.name for e in own}
    whole = config.suite or (None if own else "demo")
    return own + tuple(e for e in (entries_of(whole) if whole else ()) if e.workload.name not in names)


def _entry(spec: WorkloadSpec) -> Entry:
    """One of its own, or one of a suite by its name. Raises WrongUse for a name that no suite has."""
    if not spec.is_name:
        return Entry(spec.workload(), (DEFAULT_CONCURRENCY,), 4 * DEFAULT_CONCURRENCY)
    found = named(spec.name)
    if found is None:
        raise WrongUse(
            f"no suite has a workload {spec.name!r}",
            where="workloads",
            next="pao workloads lists them; or give isl and osl",
        )
    return found


def _flags(c: CellConfig, config: CampaignConfig) -> tuple[str, ...]:
    """The cell's own after those that all cells of its engine have."""
    return (*flag_list(config.engine_flags.get(c.engine or config.engine, [])), *flag_list(c.flags))


def _arm(c: CellConfig, config: CampaignConfig) -> Arm:
    return Arm(
        c.cell_id, c.engine or config.engine, Role(c.role), _flags(c, config), tuple(sorted(c.env.items())), c.lever, c.predicts,
        c.predicted, checked_url(c.url) if c.url else "", check_model(c.checkpoint) if c.checkpoint else "",
    )  # fmt: skip
