"""Grows the demo model to the size that a benchmark on a CPU needs, with the same answers.

    python -m demo.grow --out DIR [--model demo/model] [--layers 32] [--min-parameters 120e6] [--seed 0] [--check 40]

Below about 120M parameters one token is over before a client is scheduled to read it: timings of bursts, not of tokens.
"""

import argparse
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors.torch import load_file

from demo.folder import WEIGHTS, Shape, copy_tokenizer, parameter_count, read_shape, sha256, write_json, write_model
from demo.growth import grow, grown_shape
from demo.tasks import read_tasks

MODEL = Path(__file__).parent / "model"
RECORD = "grown.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Settings:
    """What the grown bytes depend on, besides the version of torch's random numbers."""

    source_sha256: str
    layers: int
    min_parameters: int
    seed: int


def read_record(folder: Path) -> dict[str, object] | None:
    """The record of an earlier growth, or None where there is none to read."""
    try:
        return json.loads((folder / RECORD).read_text())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
        return None


def is_done(folder: Path, settings: Settings) -> bool:
    """Whether `folder` holds this growth whole: same settings, and the weights are the bytes that were recorded."""
    found = read_record(folder)
    if found is None or found.get("version") != FORMAT_VERSION or found.get("settings") != asdict(settings):
        return False
    return (folder / WEIGHTS).is_file() and sha256(folder / WEIGHTS) == found["weights_sha256"]


def write_grown(source: Path, folder: Path, settings: Settings) -> Shape:
    """Writes the grown model and its record into `folder`; returns its shape."""
    source_shape = read_shape(source)
    shape = grown_shape(source_shape, layers=settings.layers, min_parameters=settings.min_parameters)
    tensors = grow(load_file(source / WEIGHTS), source_shape, shape, seed=settings.seed)
    eos_token_id = json.loads((source / "config.json").read_text())["eos_token_id"]
    write_model(folder, shape, tensors, eos_token_id=eos_token_id)
    copy_tokenizer(source, folder)
    write_json(
        folder / RECORD,
        {
            "version": FORMAT_VERSION,
            "settings": asdict(settings),
            "source_parameters": parameter_count(source_shape),
            "parameters": parameter_count(shape),
            "shape": asdict(shape),
            "weights_sha256": sha256(folder / WEIGHTS),
        },
    )
    return shape


def put_in_place(fresh: Path, folder: Path) -> None:
    """Renames the finished folder over an earlier growth; a folder that is something else is not ours to replace."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        os.replace(fresh, folder)
        return
    if read_record(folder) is None:
        raise SystemExit(f"{folder} holds something else than a grown model: choose another --out")
    old = fresh.with_name(fresh.name + ".old")
    os.replace(folder, old)
    os.replace(fresh, folder)
    shutil.rmtree(old)


def grow_folder(source: Path, folder: Path, settings: Settings) -> None:
    """Grows beside `folder`, then renames: a crash leaves no half model under its name."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as work:
        fresh = Path(work) / "model"
        shape = write_grown(source, fresh, settings)
        put_in_place(fresh, folder)
    print(f"{parameter_count(read_shape(source))} parameters grown to {parameter_count(shape)}: {folder}")


def check(source: Path, folder: Path, count: int) -> bool:
    """Asks both models `count` held-out questions and prints how many answers agree. True when all do."""
    from demo.answer import accuracy, answers, load_model, load_tokenizer  # growing itself needs no transformers

    tasks = read_tasks()[:count]
    questions = [task.question for task in tasks]
    before, after = (answers(load_model(model), load_tokenizer(model), questions) for model in (source, folder))
    for question, first, second in zip(questions, before, after, strict=True):
        if first != second:
            print(f"{question!r}: source {first!r}, grown {second!r}")
    agree = sum(first == second for first, second in zip(before, after, strict=True))
    right = [accuracy(tasks, given)["all"] for given in (before, after)]
    print(f"{agree} of {len(tasks)} answers agree; right: source {right[0]:.1%}, grown {right[1]:.1%}")
    return agree == len(tasks)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Grow the demo model without changing its answers.")
    parser.add_argument("--model", type=Path, default=MODEL)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--min-parameters", type=float, default=120e6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--check", type=int, default=0, metavar="N", help="ask both models N held-out questions")
    return parser.parse_args()


def main() -> None:
    asked = parse()
    settings = Settings(sha256(asked.model / WEIGHTS), asked.layers, int(asked.min_parameters), asked.seed)
    if is_done(asked.out, settings):
        print(f"{asked.out} already holds this growth of {asked.model}: nothing to do")
    else:
        grow_folder(asked.model, asked.out, settings)
    if asked.check and not check(asked.model, asked.out, asked.check):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
