"""What is to be quantized, how, and from what text: one frozen value, the JSON that the workers read, and its digest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import Corrupted, WrongUse
from profile_and_optimize.core.names import digest_of, is_plain
from profile_and_optimize.evidence.modelfolder import model_digest
from profile_and_optimize.evidence.reading import read_json
from profile_and_optimize.quant.families import Family, family_from_json, family_of, require_known, text_part
from profile_and_optimize.quant.pao_ptq.base import config_of, matrices, require_code, require_widths
from profile_and_optimize.quant.pao_ptq.base import require_tokenizer as _require_tokenizer
from profile_and_optimize.quant.pao_ptq.files import worker_sha256
from profile_and_optimize.quant.pao_ptq.headers import weights_bytes
from profile_and_optimize.quant.pao_ptq.names import module_of
from profile_and_optimize.quant.pao_ptq.scope import refuse_split
from profile_and_optimize.quant.stops import our_errors
from profile_and_optimize.quant.targets import Recipe, recipe_of

SCHEMA = 2
DEVICES = ("auto", "cpu", "cuda")
MOST_SAMPLES, MOST_SEQ_LEN = 100_000, 1_048_576


@dataclass(frozen=True, slots=True)
class Calibration:
    """`source` is what the user named; `text` the corpus file, None for the built-in one; `text_sha256` its digest."""

    source: str
    text: str | None
    text_sha256: str | None
    samples: int = 512
    seq_len: int = 2048
    chat: bool = False

    def __post_init__(self) -> None:
        if not (1 <= self.samples <= MOST_SAMPLES and 8 <= self.seq_len <= MOST_SEQ_LEN):
            raise WrongUse(
                f"{self.samples} samples of {self.seq_len} tokens: 1 to {MOST_SAMPLES} of 8 to {MOST_SEQ_LEN}",
                where="--samples, --seq-len", next="--samples 512 --seq-len 2048",
            )  # fmt: skip
        if (self.text is None) != (self.text_sha256 is None):
            raise ValueError("a corpus file has a digest, and the built-in one has neither")


@dataclass(frozen=True, slots=True)
class Heldout:
    """Text that no range was taken from: what the round trip and the KL are measured on."""

    samples: int = 16
    seq_len: int = 256

    def __post_init__(self) -> None:
        if not (1 <= self.samples <= 4096 and 8 <= self.seq_len <= MOST_SEQ_LEN):
            raise ValueError(f"held out: {self.samples} samples of {self.seq_len} tokens")


@dataclass(frozen=True, slots=True)
class Job:
    """One quantization. Paths are absolute; `out` does not exist before every check passed."""

    base: Path
    base_digest: str
    out: Path
    backend: str
    target: str
    family: Family
    exclude: tuple[str, ...]
    calibration: Calibration
    heldout: Heldout = field(default_factory=Heldout)
    seed: int = 0
    threads: int = 1
    device: str = "auto"
    trust_remote_code: bool = False
    worker_sha256: str = field(default_factory=worker_sha256)

    def __post_init__(self) -> None:
        recipe_of(self.backend, self.target)
        if not (self.base.is_absolute() and self.out.is_absolute()):
            raise ValueError(f"paths of a job are absolute: {self.base}, {self.out}")
        odd = [str(p) for p in (self.base, self.out) if not is_plain(str(p))]
        if odd:
            raise WrongUse(f"{odd[0]!r} holds control characters", where="--model, --out", next="rename the folder")
        if self.out == self.base or self.base in self.out.parents or self.out in self.base.parents:
            raise WrongUse(
                "--out and --model must not contain one another", where=f"--out {self.out}", next="give another folder"
            )
        bad = [p for p in self.exclude if not is_plain(p)]
        if bad:
            raise WrongUse(
                f"{bad[0]!r} is not a pattern of module names", where="--exclude-pattern", next="e.g. '*mlp.gate'"
            )
        if self.device not in DEVICES or not 1 <= self.threads <= 1024:
            raise WrongUse(f"device {self.device!r}, {self.threads} threads", where="--device", next=", ".join(DEVICES))

    @property
    def recipe(self) -> Recipe:
        return recipe_of(self.backend, self.target)

    @property
    def partial(self) -> Path:
        """Where everything lies until the last check passed."""
        return self.out.with_name(self.out.name + ".partial")

    @property
    def bundle(self) -> Path:
        """The rendered files and the log of their runs; stays when the rest is cleared away."""
        return self.out.with_name(self.out.name + ".bundle") / "quantize"

    @property
    def digest(self) -> str:
        """Over everything that shapes the result. Where base, text and result lie does not: their contents do."""
        told = self._plain()
        told["calibration"].pop("text")
        # How long it takes, not what comes out, hangs on the threads.
        return digest_of({k: v for k, v in told.items() if k not in ("base", "out", "threads")})

    def to_json(self) -> dict[str, Any]:
        return self._plain() | {"job_digest": self.digest}

    def _plain(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "base": str(self.base), "base_digest": self.base_digest, "out": str(self.out),
            "backend": self.backend, "target": self.target, "family": self.family.to_json(), "exclude": list(self.exclude),
            "calibration": asdict(self.calibration), "heldout": asdict(self.heldout), "seed": self.seed,
            "threads": self.threads, "device": self.device, "trust_remote_code": self.trust_remote_code,
            "worker_sha256": self.worker_sha256,
        }  # fmt: skip


def job_bytes(job: Job) -> bytes:
    return (json.dumps(job.to_json(), indent=1) + "\n").encode()


def read_job(file: Path) -> Job:
    """Raises Corrupted for a file that is none, or whose digest is not that of what it says, and WrongUse for one of another
    release, which says nothing of the workers that it was written for."""
    data = read_json(file)
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema != SCHEMA:
        told = f"a job of schema {schema}, and this release reads {SCHEMA}"
        raise WrongUse(told, where=str(file), next="pao quantize writes it anew")
    try:
        job = Job(
            base=Path(data["base"]), base_digest=data["base_digest"], out=Path(data["out"]), backend=data["backend"],
            target=data["target"], family=family_from_json(data["family"]), exclude=tuple(data["exclude"]),
            calibration=Calibration(**data["calibration"]), heldout=Heldout(**data["heldout"]), seed=data["seed"],
            threads=data["threads"], device=data["device"], trust_remote_code=data["trust_remote_code"],
            worker_sha256=data["worker_sha256"],
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as e:
        raise Corrupted(f"not a job: {type(e).__name__} {e}", where=str(file), next="pao quantize writes it") from e
    if data.get("job_digest") != job.digest:
        raise Corrupted(
            "its digest differs from that of its content", where=str(file), next="pao quantize writes it anew"
        )
    return job


def new_job(
    base: Path, out: Path, *, backend: str, target: str, calibration: Calibration, exclude: Iterable[str] = (),
    vendor_exclude: tuple[str, ...] | None = None, heldout: Heldout | None = None, seed: int = 0, threads: int = 1,
    device: str = "auto", trust_remote_code: bool = False,
) -> Job:  # fmt: skip
    """A job on a model folder, everything checked that can be without loading it.

    `exclude` is added to the family's scope; `vendor_exclude`, a vendor checkpoint's own list, takes the family's place.
    Raises WrongUse for a base that cannot be quantized, an unsupported pair, widths in scope that the format does not divide, and a
    matrix that engines run as one and that would be quantized in part.
    """
    config = base_config(base)
    recipe = recipe_of(backend, target)
    family = family_of(config)
    require_known(family)
    scope = (*(family.exclude if vendor_exclude is None else vendor_exclude), *exclude)
    with our_errors():
        require_code(config, base, trust_remote_code)
        require_widths(base, scope, recipe)
        refuse_split([module_of(name) for name, _ in matrices(base)], scope)
    _require_length(config, calibration.seq_len)
    return Job(
        base=base.absolute(), base_digest=model_digest(str(base)), out=out.absolute(), backend=backend, target=target,
        family=family, exclude=tuple(dict.fromkeys(scope)), calibration=calibration,
        heldout=heldout or Heldout(), seed=seed, threads=threads, device=device, trust_remote_code=trust_remote_code,
    )  # fmt: skip


def base_config(base: Path) -> dict[str, Any]:
    """The config of a base that can be quantized. Raises WrongUse with the worker's reason for one that cannot."""
    with our_errors():
        return config_of(base)


def base_bytes(base: Path) -> int:
    """Bytes of the files that hold the base's weights. Raises WrongUse for a folder that has none."""
    with our_errors():
        return weights_bytes(base)


def require_tokenizer(base: Path) -> None:
    """Raises WrongUse for a folder without tokenizer files."""
    with our_errors():
        _require_tokenizer(base)


def _require_length(config: Mapping[str, Any], seq_len: int) -> None:
    most = text_part(config).get("max_position_embeddings")
    if isinstance(most, int) and seq_len > most:
        raise WrongUse(f"the model takes {most} tokens at most", where=f"--seq-len {seq_len}", next=f"--seq-len {most}")
