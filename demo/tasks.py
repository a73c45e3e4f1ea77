"""The demo tasks: small questions with one right answer each, and filler text. Standard library only.

    python -m demo.tasks                      # writes demo/heldout.jsonl and heldout_more.jsonl again, the same bytes

A question belongs to one part by the hash of its text: training never meets a held-out question, whatever the seed.
"""

import argparse
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from demo.words import COLOURS, NOUNS, PLACES, VERBS

HELDOUT = Path(__file__).parent / "heldout.jsonl"
HELDOUT_SEED = 20240
HELDOUT_PER_KIND = 120
# For tests that must tell a loss of one point: the recipe is bound to the file above, so these have one of their own.
# All that the hash holds out of the sums and differences, and as many of the others as make 2,000 questions in all.
MORE = Path(__file__).parent / "heldout_more.jsonl"
MORE_SEED = 20241
MORE_OF = {"add": 347, "subtract": 159, "copy": 507, "lookup": 507}
LARGEST = 99  # of the numbers added and subtracted
# Always these, in this order: with free names a model of this size was still guessing after 3,000 steps.
LISTED = ("ann", "bob", "cat", "dan")
SHARES = 20  # one share is held out, one steers the training, the others train


class Part(Enum):
    HELDOUT = "heldout"
    DEVELOPMENT = "development"
    TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Task:
    """One question in a user's words, its only right answer, and its kind (a key of KINDS)."""

    question: str
    answer: str
    kind: str


def part_of(question: str) -> Part:
    share = int(hashlib.sha256(question.encode()).hexdigest(), 16) % SHARES
    return {0: Part.HELDOUT, 1: Part.DEVELOPMENT}.get(share, Part.TRAINING)


def add(rng: random.Random) -> Task:
    first, second = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    return Task(f"What is {first} + {second}?", str(first + second), "add")


def subtract(rng: random.Random) -> Task:
    second, first = sorted((rng.randint(0, LARGEST), rng.randint(0, LARGEST)))
    return Task(f"What is {first} - {second}?", str(first - second), "subtract")


def copy(rng: random.Random) -> Task:
    words = " ".join(rng.choices(NOUNS + COLOURS, k=rng.randint(2, 4)))
    return Task(f"Repeat: {words}", words, "copy")


def lookup(rng: random.Random) -> Task:
    values = {name: str(rng.randint(0, 9)) for name in LISTED}
    asked = rng.choice(LISTED)
    pairs = " ".join(f"{name}={value}" for name, value in values.items())
    return Task(f"{pairs}. {asked}?", values[asked], "lookup")


KINDS: dict[str, Callable[[random.Random], Task]] = {"add": add, "subtract": subtract, "copy": copy, "lookup": lookup}


def draw(rng: random.Random, kind: str, part: Part) -> Task:
    """One task of this kind from this part: draws until the hash agrees."""
    while True:
        task = KINDS[kind](rng)
        if part_of(task.question) is part:
            return task


def distinct(part: Part, *, per_kind: int, seed: int) -> list[Task]:
    """`per_kind` different questions of each kind, kinds taking turns: any leading slice is balanced."""
    rng = random.Random(seed)
    found: dict[str, dict[str, Task]] = {kind: {} for kind in KINDS}
    for kind, tasks in found.items():
        while len(tasks) < per_kind:
            task = draw(rng, kind, part)
            tasks.setdefault(task.question, task)
    return [task for turn in zip(*(tasks.values() for tasks in found.values()), strict=True) for task in turn]


def sentence(rng: random.Random) -> str:
    """Filler in plain words, such as "The red fox finds a lamp in the garden."."""
    subject = f"The {rng.choice(COLOURS)} {rng.choice(NOUNS)}"
    return f"{subject} {rng.choice(VERBS)} the {rng.choice(NOUNS)} in the {rng.choice(PLACES)}."


def filler(rng: random.Random, sentences: int) -> str:
    return " ".join(sentence(rng) for _ in range(sentences))


def heldout() -> list[Task]:
    return distinct(Part.HELDOUT, per_kind=HELDOUT_PER_KIND, seed=HELDOUT_SEED)


def more_heldout() -> list[Task]:
    """Held-out questions that are not in `heldout`, kinds spread evenly: any leading slice has about the same mix."""
    rng = random.Random(MORE_SEED)
    known = {task.question for task in heldout()}
    spread: list[tuple[float, Task]] = []
    for kind, count in MORE_OF.items():
        found: dict[str, Task] = {}
        while len(found) < count:
            task = draw(rng, kind, Part.HELDOUT)
            if task.question not in known:
                found.setdefault(task.question, task)
        spread += [((place + 0.5) / count, task) for place, task in enumerate(found.values())]
    return [task for _, task in sorted(spread, key=lambda placed: placed[0])]


def read_tasks(path: Path = HELDOUT) -> list[Task]:
    return [Task(**json.loads(line)) for line in path.read_text().splitlines()]


def write_tasks(tasks: list[Task], path: Path) -> None:
    path.write_text("".join(json.dumps(asdict(task)) + "\n" for task in tasks))


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the held-out questions, one JSON object a line.")
    parser.add_argument("--out", type=Path, default=HELDOUT.parent, help="a folder")
    folder = parser.parse_args().out
    for name, tasks in ((HELDOUT.name, heldout()), (MORE.name, more_heldout())):
        write_tasks(tasks, folder / name)
        print(f"{len(tasks)} questions in {folder / name}")


if __name__ == "__main__":
    main()
