"""The shipped demo model: its recipe describes these bytes, and they are small and right enough."""

import hashlib
import json
from pathlib import Path

import pytest

import demo

DEMO = Path(demo.__file__).parent
MODEL = DEMO / "model"


@pytest.fixture(scope="module")
def recipe():
    return json.loads((MODEL / "recipe.json").read_text())


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_recipe_names_the_shipped_weights(recipe):
    assert recipe["weights_sha256"] == digest(MODEL / "model.safetensors")


def test_the_recorded_accuracy_is_of_the_shipped_questions(recipe):
    questions = (DEMO / "heldout.jsonl").read_text().splitlines()
    assert recipe["heldout"]["sha256"] == digest(DEMO / "heldout.jsonl")
    assert recipe["heldout"]["questions"] == len(questions)


def test_at_least_95_percent_of_the_heldout_questions_were_answered(recipe):
    assert recipe["heldout"]["accuracy"]["all"] >= 0.95


def test_the_folder_is_at_most_16_mb():
    assert sum(path.stat().st_size for path in MODEL.iterdir()) <= 16_000_000


def test_the_weights_file_holds_the_recorded_number_of_bf16_parameters(recipe):
    with (MODEL / "model.safetensors").open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__", None)
    assert {tensor["dtype"] for tensor in header.values()} == {"BF16"}
    size = max(tensor["data_offsets"][1] for tensor in header.values())
    assert size == 2 * recipe["parameters"]


def test_a_generation_ends_at_the_end_of_turn_token():
    tokens = json.loads((MODEL / "tokenizer.json").read_text())["added_tokens"]
    (end,) = [token for token in tokens if token["content"] == "<|end|>"]
    for name in ("config.json", "generation_config.json"):
        assert json.loads((MODEL / name).read_text())["eos_token_id"] == end["id"]
    assert not any(token["special"] for token in tokens)
