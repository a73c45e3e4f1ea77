"""The rendered folder: whole, labelled, acknowledged, and safe with any name."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from small import DEMO, Player, small_job, write_base

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.quant import bundle
from profile_and_optimize.quant.bundle import ACK, WORKERS, Place, files_of, place_of, write_bundle
from profile_and_optimize.quant.job import Calibration, Job, new_job, read_job
from profile_and_optimize.quant.pao_ptq.files import worker_files
from profile_and_optimize.workloads.recorded import digest_file

HOSTILE = [
    "a b",
    "$(touch pwned)",
    "`touch pwned`",
    "a'b\"c",
    "a;touch pwned",
    "{{ 7*7 }}",
    "a|b&c",
    "-x",
    "#x: y",
    "ünï",
]


def manifests(job: Job, place: Place | None = None) -> list[dict[str, Any]]:
    files = files_of(job, place or place_of(job))
    return [yaml.safe_load(files[name]) for name in sorted(files) if name.endswith(".yaml")]


def test_the_bundle_has_what_every_place_needs(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    folder = write_bundle(job, place_of(job))
    assert folder == tmp_path / "out.bundle" / "quantize"
    assert {p.name for p in folder.iterdir()} == {
        WORKERS, "job.json", "job.cluster.json", "00-calib-pvc.yaml", "01-calib-dataset-job.yaml", "02-quantize-job.yaml",
        "quantize.sbatch", "run.sh", "README.md",
    }  # fmt: skip
    assert read_job(folder / "job.json") == job
    source = Path(bundle.__file__).parent / WORKERS
    assert {p.name: p.read_bytes() for p in (folder / WORKERS).iterdir()} == {
        p.name: p.read_bytes() for p in source.glob("*.py")
    }


def test_a_file_of_another_releases_workers_does_not_stay_among_these(tmp_path: Path) -> None:
    """The digest of the workers is over every file of the package: with one more the job would be refused for good."""
    job = small_job(tmp_path)
    folder = write_bundle(job, place_of(job))
    (folder / WORKERS / "gone.py").write_text("")
    assert {p.name for p in (write_bundle(job, place_of(job)) / WORKERS).iterdir()} == set(worker_files())


def test_the_cluster_has_the_same_job_in_other_places(tmp_path: Path) -> None:
    (tmp_path / "my text.jsonl").write_text("{}")
    text = Calibration("x", str(tmp_path / "my text.jsonl"), digest_file(tmp_path / "my text.jsonl"), 4, 64)
    job = small_job(tmp_path, calibration=text)
    there = bundle.cluster_job(job)
    assert (
        there.digest == job.digest and str(there.base) == "/models/base" and str(there.out) == "/models/quantized/nvfp4"
    )
    assert there.calibration.text == "/models/calibration/corpus.jsonl"


def test_everything_on_the_cluster_carries_the_experiment_and_the_claim_its_name(tmp_path: Path) -> None:
    place = place_of(small_job(tmp_path))
    claim, calib, quantize = manifests(small_job(tmp_path), place)
    assert {m["metadata"]["labels"]["experiment"] for m in (claim, calib, quantize)} == {place.experiment}
    assert all(m["metadata"]["name"].startswith(place.experiment) for m in (claim, calib, quantize))
    for m in (calib, quantize):
        assert m["spec"]["template"]["metadata"]["labels"]["experiment"] == place.experiment
        volumes = {v["name"]: v for v in m["spec"]["template"]["spec"]["volumes"]}
        assert volumes["models"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        files, workers = (source["configMap"] for source in volumes["files"]["projected"]["sources"])
        assert files == {"name": place.config_map} and workers["name"] == place.workers_map
        assert {i["key"]: i["path"] for i in workers["items"]} == {n: f"pao_ptq/{n}" for n in worker_files()}
        (container,) = m["spec"]["template"]["spec"]["containers"]
        assert container["command"][:2] == ["sh", "/quantize/run.sh"]
    (container,) = quantize["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": 1}
    assert "resources" not in calib["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize("acknowledged", [False, True])
def test_the_quantize_job_waits_for_its_acknowledgement(tmp_path: Path, acknowledged: bool) -> None:
    job = small_job(tmp_path)
    place = place_of(job, acknowledged=acknowledged)
    (container,) = manifests(job, place)[2]["spec"]["template"]["spec"]["containers"]
    env = {e["name"]: e["value"] for e in container["env"]}
    assert env[ACK] == ("yes" if acknowledged else "")
    assert env["OMP_NUM_THREADS"] == "1"


def test_both_maps_are_made_and_labelled_before_a_job_wants_them(tmp_path: Path) -> None:
    """The files beside run.sh in one, the package in the other: a map is flat, and its keys are the names of the files."""
    job = small_job(tmp_path)
    place = place_of(job)
    text = files_of(job, place)["README.md"].decode()
    made = [line.split("create configmap ")[1] for line in text.splitlines() if "create configmap" in line]
    assert made == [
        f"{place.config_map} --from-file=job.json=job.cluster.json --from-file=run.sh",
        f"{place.workers_map} --from-file=pao_ptq",
    ]
    assert f"label configmap {place.config_map} {place.workers_map} experiment={place.experiment}" in text
    assert text.index("create configmap") < text.index("apply -f 01-calib-dataset-job.yaml")


def test_teardown_goes_by_the_label_and_the_claim_comes_last(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    place = place_of(job)
    text = files_of(job, place)["README.md"].decode()
    jobs = text.index(f"delete job,configmap -l experiment={place.experiment}")
    assert jobs < text.index(f"delete pvc -l experiment={place.experiment}")
    for pin in ("torch==2.13.0", "nvidia-modelopt==0.47.0", "llmcompressor==0.13.0", "transformers==5.14.1"):
        assert pin in text


def test_room_on_the_claim_is_a_multiple_of_the_base(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    assert bundle.claim_bytes(job) == 3 << 30  # 2 GiB and 2.5 times next to nothing, rounded up
    os.truncate(job.base / "model.safetensors", 4 << 30)  # a sparse file
    assert bundle.claim_bytes(job) == 12 << 30


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_value_everywhere(tmp_path: Path, name: str) -> None:
    base = write_base(tmp_path / name / "base")
    job = new_job(
        base, tmp_path / name / "out", backend="modelopt", target="nvfp4", calibration=Calibration("builtin", None, None, 4, 64),
        exclude=[] if name.startswith("-") else [name],
    )  # fmt: skip
    files = files_of(job, place_of(job, python=str(tmp_path / name / "python")))
    assert json.loads(files["job.json"])["base"] == str(base)
    assert [yaml.safe_load(files[n])["kind"] for n in sorted(files) if n.endswith(".yaml")] == [
        "PersistentVolumeClaim",
        "Job",
        "Job",
    ]
    for script in ("run.sh", "quantize.sbatch"):
        code = "\n".join(line for line in files[script].decode().splitlines() if not line.startswith("#"))
        assert name not in code or shlex.quote(name) == name or "'" in code
        assert subprocess.run(["sh", "-n"], input=files[script], timeout=20).returncode == 0
    ran = subprocess.run(
        ["sh", "-s"],
        input=files["run.sh"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        timeout=20,
    )
    assert ran.returncode == 2 and ACK.encode() in ran.stderr
    assert not list(tmp_path.rglob("pwned"))


def test_a_name_that_could_end_a_line_is_refused(tmp_path: Path) -> None:
    base = write_base(tmp_path / "a\ntouch pwned\n")
    with pytest.raises(WrongUse, match="control characters"):
        new_job(
            base,
            tmp_path / "out",
            backend="modelopt",
            target="nvfp4",
            calibration=Calibration("builtin", None, None, 4, 64),
        )


@pytest.mark.parametrize("bad", ["", "A", "a_b", "-a", "a" * 64, "a b"])
def test_an_experiment_that_is_no_label_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="experiment"):
        Place(bad)


def test_a_long_name_of_a_model_still_gives_a_label(tmp_path: Path) -> None:
    job = replace(small_job(tmp_path), out=tmp_path / ("Long.Name_" * 12))
    assert len(place_of(job).experiment) <= 48 and len(f"{place_of(job).experiment}-quantize") <= 63


def test_the_script_runs_the_steps_with_the_acknowledgement_alone(tmp_path: Path) -> None:
    job = replace(small_job(tmp_path), threads=3)
    player = Player(tmp_path / "env")
    folder = write_bundle(job, place_of(job, python=str(player.python)))
    env = {"PATH": os.environ["PATH"]}
    argv = ["sh", str(folder / "run.sh")]
    assert subprocess.run(argv, env=env, capture_output=True, timeout=60).returncode == 2 and player.ran == []
    env |= {ACK: "yes"}
    assert subprocess.run([*argv, "calibrate"], env=env, capture_output=True, timeout=60).returncode == 0
    assert player.ran == ["calibrate"] and not job.out.exists()
    assert subprocess.run(argv, env=env, capture_output=True, timeout=60).returncode == 0
    assert player.ran == ["calibrate", "calibrate", "quantize", "roundtrip", "guard"] and player.threads == {"3"}
    assert (job.out / "coverage.json").exists() and not job.partial.exists()


def test_the_script_moved_elsewhere_works_on_the_job_beside_it(tmp_path: Path) -> None:
    """As on a cluster: the folder is mounted under another path, and the base is elsewhere."""
    job = small_job(tmp_path)
    player = Player(tmp_path / "env")
    moved = Path(shutil.copytree(write_bundle(job, place_of(job)), tmp_path / "mounted"))
    there = replace(job, base=Path(shutil.copytree(job.base, tmp_path / "elsewhere")), out=tmp_path / "result")
    (moved / "job.json").write_bytes(bundle.job_bytes(there))
    env = {"PATH": os.environ["PATH"], ACK: "yes", "PAO_PTQ_PYTHON": str(player.python)}
    other = tmp_path / "where it is started"
    (other / "pao_ptq").mkdir(parents=True)  # not the one beside the script
    (other / "pao_ptq/__init__.py").write_text("raise SystemExit('the wrong package')")
    assert (
        subprocess.run(["sh", "../mounted/run.sh"], env=env, cwd=other, capture_output=True, timeout=60).returncode == 0
    )
    assert (tmp_path / "result" / "coverage.json").exists() and not job.out.exists()


def test_the_demo_model_renders(tmp_path: Path) -> None:
    job = new_job(
        DEMO, tmp_path / "o", backend="llm-compressor", target="int8", calibration=Calibration("builtin", None, None)
    )
    assert b"int8 with llm-compressor" in files_of(job, place_of(job))["README.md"]
