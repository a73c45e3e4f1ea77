"""The workers' package as a package: what it may import, what its two halves share, how it is started, how long it is."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from small import small_job, worker_job, write_base
from test_quant_guard import made

from profile_and_optimize.quant import pao_ptq
from profile_and_optimize.quant.pao_ptq.exporting import record
from profile_and_optimize.quant.pao_ptq.files import worker_sha256
from profile_and_optimize.quant.pao_ptq.job import job_of
from profile_and_optimize.quant.pao_ptq.loading import Loaded
from profile_and_optimize.quant.pao_ptq.work import Work

PACKAGE = Path(pao_ptq.__file__).parent
MODULES = {path.stem: ast.parse(path.read_text()) for path in PACKAGE.glob("*.py")}
# What writer and checker may share: names, files, the loading of models. No number of a weight is computed in any of them.
SHARED = {
    "stop", "files", "folder", "headers", "job", "loading", "memory", "names", "progress", "recorded", "samples", "speaks", "targets",
}  # fmt: skip


def closure(*names: str) -> set[str]:
    found, wanted = set(), set(names)
    while wanted:
        found |= wanted
        nodes = [n for name in wanted for n in ast.walk(MODULES[name]) if isinstance(n, ast.ImportFrom) and n.level]
        wanted = {n.module for n in nodes if n.module} - found
    return found


def test_writer_and_checker_share_no_arithmetic() -> None:
    writer, checker = closure("calibrate", "quantize"), closure("roundtrip", "guard")
    assert {"by_modelopt", "modelopt_cpu", "packing"} <= writer and {"dequantize", "rounding", "evidence"} <= checker
    assert writer & checker <= SHARED
    assert not {n for name in SHARED for n in absolute(MODULES[name])} & {"numpy", "math", "statistics"}


def absolute(tree: ast.AST, *, lazily: bool = True) -> Iterator[str]:
    """Packages that are imported by their full names; `lazily`: those in functions too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").split(".")[0]
        elif isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        if lazily or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from absolute(node, lazily=lazily)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_its_neighbours_and_nothing_of_the_product_and_nothing_heavy_before_it_is_needed(
    name: str,
) -> None:
    tree = MODULES[name]
    relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    assert all(n.level == 1 and n.module in MODULES for n in relative)
    assert set(absolute(tree, lazily=False)) <= {*sys.stdlib_module_names, "numpy"}
    assert not set(absolute(tree)) & {"profile_and_optimize", "pao_ptq", *MODULES} - {*sys.stdlib_module_names}


def test_it_runs_where_only_its_folder_is_known(tmp_path: Path) -> None:
    """As a module with a path that is not searched for other names, and by its folder in a Python that takes no settings."""
    space = tmp_path / "elsewhere"
    folder = Path(shutil.copytree(PACKAGE, space / "pao_ptq", ignore=shutil.ignore_patterns("__pycache__")))
    bare = {"PATH": os.environ["PATH"]}
    ways = {
        "module": (["-m", "pao_ptq"], bare | {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(space)}),
        "folder": (["-I", str(folder)], bare),
    }
    for way, (argv, env) in ways.items():
        given = made(tmp_path / way)
        command = [sys.executable, *argv, "guard", str(given.write())]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "is complete" in done.stdout, done.stderr
        assert json.loads((given.out / "coverage.json").read_text())["passed"] is True
        again = subprocess.run(
            [*command[:-2], "guess"], env=env, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )
        assert again.returncode == 2 and "calibrate, quantize, roundtrip, guard" in again.stderr


def test_the_digest_is_over_names_and_contents_of_every_file(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(PACKAGE, tmp_path / "pao_ptq"))

    def digest() -> str:
        code = "from pao_ptq.files import worker_sha256; print(worker_sha256())"
        env = {"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run(
            [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
        ).stdout.strip()

    first = digest()
    assert first == worker_sha256() and len(first) == 64
    (folder / "seen.py").rename(folder / "seem.py")
    renamed = digest()
    (folder / "seem.py").write_text((folder / "seem.py").read_text() + "\n")
    assert len({first, renamed, digest()}) == 3


def test_which_workers_made_a_checkpoint_is_part_of_its_job_and_of_its_record(tmp_path: Path) -> None:
    job = small_job(tmp_path)
    assert job.to_json()["worker_sha256"] == worker_sha256() and job_of(job.to_json()).worker_sha256 == worker_sha256()
    assert replace(job, worker_sha256="0" * 64).digest != job.digest
    write_base(tmp_path / "base")
    model = SimpleNamespace(config=SimpleNamespace(model_type="llama"))
    work = Work(job_of(worker_job(tmp_path)))
    work.work.mkdir(parents=True)
    (work.work / "facts.json").write_text("{}")
    (work.work / "reference.safetensors").write_bytes(b"answers")
    told = record(work, Loaded(model, False, "cpu"))
    assert told["job"]["worker_sha256"] == worker_sha256()


def test_a_file_fits_a_reader_and_a_function_a_screen() -> None:
    long = []
    for path in PACKAGE.parent.rglob("*.py"):
        text = path.read_text()
        if len(text.splitlines()) > 400:
            long.append(path.name)
        functions = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        long += [f"{path.name}: {f.name}" for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 60]
    assert long == []
