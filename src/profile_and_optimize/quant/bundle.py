"""The folder that says everything of one quantization: the workers, the job, and how to run it here, on Slurm, on Kubernetes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import yaml

from profile_and_optimize.core.names import slug
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.quant.job import Job, base_bytes, job_bytes
from profile_and_optimize.quant.pao_ptq.files import worker_files
from profile_and_optimize.toolenv.specs import PTQ

WORKERS = "pao_ptq"
ACK = "PAO_I_UNDERSTAND_THIS_SUBMITS_JOBS"
GIB = 1 << 30
MOUNT, CODE = "/models", "/quantize"


@dataclass(frozen=True, slots=True)
class Place:
    """Where it may run besides here. `experiment` names and labels everything; `acknowledged` lets the job start."""

    experiment: str
    namespace: str = "default"
    image: str = "python:3.11"
    gpus: int = 1
    acknowledged: bool = False
    python: str = "python3"

    def __post_init__(self) -> None:
        # Also a label's value and a Kubernetes name, with room for an ending.
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?", self.experiment):
            raise ValueError(f"experiment {self.experiment!r}")
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", self.namespace) or not 0 <= self.gpus <= 64:
            raise ValueError(f"namespace {self.namespace!r}, {self.gpus} GPUs")

    @property
    def config_map(self) -> str:
        return f"{self.experiment}-files"

    @property
    def workers_map(self) -> str:
        return f"{self.experiment}-workers"

    @property
    def claim(self) -> str:
        return f"{self.experiment}-models"


def place_of(job: Job, *, acknowledged: bool = False, python: str = "python3") -> Place:
    return Place(f"{slug(job.out.name)}-{job.digest[:6]}", acknowledged=acknowledged, python=python)


def write_bundle(job: Job, place: Place) -> Path:
    """The folder, each file whole. What is there already of another job is written over; a worker's file of another release
    is removed, for it would be one of the package's."""
    files = files_of(job, place)
    for name, data in files.items():
        write_atomic(job.bundle / name, data)
    for path in (job.bundle / WORKERS).glob("*.py"):
        if f"{WORKERS}/{path.name}" not in files:
            path.unlink()
    return job.bundle


def files_of(job: Job, place: Place) -> dict[str, bytes]:
    """Name -> bytes of every file of the bundle."""
    cluster = cluster_job(job)
    texts = {
        "00-calib-pvc.yaml": _yaml(_claim(job, place)),
        "01-calib-dataset-job.yaml": _yaml(_job(job, place, "calib", "calibrate", gpus=0, ack="yes")),
        "02-quantize-job.yaml": _yaml(
            _job(job, place, "quantize", "all", gpus=place.gpus, ack="yes" if place.acknowledged else "")
        ),
        "run.sh": _rendered("run.sh.j2", job, place, cluster),
        "quantize.sbatch": _rendered("quantize.sbatch.j2", job, place, cluster),
        "README.md": _rendered("README.md.j2", job, place, cluster),
    }
    files = {name: text.encode() for name, text in texts.items()}
    files |= {"job.json": job_bytes(job), "job.cluster.json": job_bytes(cluster)}
    return files | {f"{WORKERS}/{name}": data for name, data in worker_files().items()}


def cluster_job(job: Job) -> Job:
    """The same job with the paths it has on the claim; its digest is the same, as paths are no part of it."""
    text = job.calibration.text
    moved = None if text is None else f"{MOUNT}/calibration/{_plain_name(text)}"
    return replace(
        job, base=Path(MOUNT, "base"), out=Path(MOUNT, "quantized", job.target),
        calibration=replace(job.calibration, text=moved),
    )  # fmt: skip


def _plain_name(text: str) -> str:
    """A file's name that needs no quoting anywhere; its ending says what it is."""
    name = Path(text).name
    return "corpus" + "".join(s for s in Path(name).suffixes if re.fullmatch(r"\.[a-z]{1,8}", s))


def claim_bytes(job: Job) -> int:
    """Room for the base, the export, a half-made one, and the reference logits; whole GiB above that."""
    base = base_bytes(job.base) if job.base.is_dir() else 0
    return -(-int(base * 2.5 + 2 * GIB) // GIB) * GIB


def _meta(name: str, place: Place) -> dict[str, Any]:
    return {"name": name, "labels": {"experiment": place.experiment, "app.kubernetes.io/name": "quantize"}}


def _claim(job: Job, place: Place) -> dict[str, Any]:
    return {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": _meta(place.claim, place),
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": f"{claim_bytes(job) // GIB}Gi"}},
        },
    }  # fmt: skip


def _job(job: Job, place: Place, ending: str, step: str, *, gpus: int, ack: str) -> dict[str, Any]:
    meta = _meta(f"{place.experiment}-{ending}", place)
    env = {ACK: ack, "PAO_INSTALL": "1", "PAO_PTQ_PYTHON": "python3", "OMP_NUM_THREADS": str(job.threads)}
    container: dict[str, Any] = {
        "name": ending, "image": place.image, "command": ["sh", f"{CODE}/run.sh", step],
        "env": [{"name": k, "value": v} for k, v in env.items()],
        "volumeMounts": [{"name": "models", "mountPath": MOUNT}, {"name": "files", "mountPath": CODE, "readOnly": True}],
    }  # fmt: skip
    if gpus:
        container["resources"] = {"limits": {"nvidia.com/gpu": gpus}}
    volumes = [
        {"name": "models", "persistentVolumeClaim": {"claimName": place.claim}},
        {
            "name": "files",
            "projected": {
                "sources": [
                    {"configMap": {"name": place.config_map}},
                    {"configMap": {"name": place.workers_map, "items": _worker_items()}},
                ]
            },
        },
    ]
    pod = {"restartPolicy": "Never", "containers": [container], "volumes": volumes}
    # A pod that was moved or killed goes on where it was, so one more try costs little.
    spec = {"backoffLimit": 1, "template": {"metadata": {"labels": meta["labels"]}, "spec": pod}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}


def _worker_items() -> list[dict[str, str]]:
    """A config map is flat; the package is a folder."""
    return [{"key": name, "path": f"{WORKERS}/{name}"} for name in worker_files()]


def _yaml(value: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=False, width=1000)


def _rendered(name: str, job: Job, place: Place, cluster: Job) -> str:
    env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True)
    env.filters |= {"quote": shlex.quote, "code": _code}
    source = (resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")
    told = cluster.to_json()
    return env.from_string(source).render(
        **(job.to_json() | {"base": _one_line(str(job.base)), "out": str(job.out)}),
        experiment=place.experiment, namespace=place.namespace, gpus=place.gpus, acknowledged=place.acknowledged,
        python=place.python, config_map=place.config_map, workers_map=place.workers_map, workers=WORKERS,
        script=str(job.bundle / "run.sh"),
        torch=_public(PTQ.torch or ""), pins=[PTQ.requirement, *PTQ.also],
        cluster={"base": told["base"], "out": told["out"], "text": told["calibration"]["text"]},
    )  # fmt: skip


def _public(requirement: str) -> str:
    """Without the local build's name: a GPU node takes the build with CUDA."""
    return requirement.partition("+")[0]


def _one_line(text: str) -> str:
    """For a comment of a script: nothing in it may end the line."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _code(text: str) -> str:
    """As code in a Markdown table, whatever the name holds."""
    shown = _one_line(text).replace("|", "\\|")
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence}{' ' if '`' in shown else ''}{shown}{' ' if '`' in shown else ''}{fence}"


def manifest(job: Job) -> str:
    """The job as a person reads it in a dry run."""
    return json.dumps(job.to_json(), indent=1)
