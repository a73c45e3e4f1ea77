"""Trains the demo model from scratch on a CPU and writes demo/model. Can be killed and started again.

    python -m demo.train [--threads 2]        # about a quarter of an hour; resumes from demo/.train

The learning rate stays constant until the development questions are answered, then falls to zero: the held-out
questions choose nothing, and are asked once, of the weights as saved.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import tokenizers
import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

from demo.answer import accuracy, answers, load_model, load_tokenizer
from demo.batches import Batch, Mix, training_batch
from demo.folder import WEIGHTS, Shape, configuration, parameter_count, sha256, write_json, write_model
from demo.tasks import HELDOUT, Part, Task, distinct, heldout, read_tasks, write_tasks
from demo.tokenizer import END, save_tokenizer

DEMO = Path(__file__).parent
MODEL = DEMO / "model"
DEVELOPMENT_SEED = 7
SHARES = {"add": 3, "subtract": 3, "copy": 1, "lookup": 1}  # sums are the hardest to learn
MIX = Mix(SHARES, short_rows=64, long_rows=3, long_tokens=320, long_every=8)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything the weights depend on, besides library versions and the order of floating-point sums."""

    seed: int = 1
    learning_rate: float = 1.2e-3
    weight_decay: float = 0.05
    gradient_clip: float = 1.0
    warmup_steps: int = 100
    decay_steps: int = 600
    longest_steps: int = 8000
    good_enough: float = 0.9  # development accuracy at which the learning rate starts to fall
    check_every: int = 250
    mix: Mix = MIX


@dataclass(slots=True)
class Progress:
    """Where the training stands; saved with the weights. `decay_from`: the step the learning rate began to fall."""

    step: int = 0
    decay_from: int | None = None
    spent_s: float = 0.0

    def last_step(self, recipe: Recipe) -> int:
        latest = recipe.longest_steps - recipe.decay_steps
        return min(latest, latest if self.decay_from is None else self.decay_from) + recipe.decay_steps


def demo_shape(vocab_size: int) -> Shape:
    return Shape(
        vocab_size,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=64,
    )


def learning_rate(recipe: Recipe, progress: Progress) -> float:
    """Linear warm-up, constant, then linear to zero over the last `decay_steps`."""
    warm = min(1.0, (progress.step + 1) / recipe.warmup_steps)
    left = min(1.0, (progress.last_step(recipe) - progress.step) / recipe.decay_steps)
    return recipe.learning_rate * warm * left


def weighted_loss(model: Qwen3ForCausalLM, batch: Batch) -> torch.Tensor:
    logits = model(input_ids=batch.ids).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), batch.ids[:, 1:].flatten(), reduction="none"
    )
    weights = batch.weights[:, 1:].flatten()
    return (losses * weights).sum() / weights.sum()


class Training:
    """The model, its optimizer and their progress, on disk under `work` between runs."""

    def __init__(self, recipe: Recipe, work: Path) -> None:
        self.recipe, self.checkpoint = recipe, work / "checkpoint.pt"
        self.tokenizer = save_tokenizer(work)
        self.end = self.tokenizer.token_to_id(END)
        self.shape = demo_shape(self.tokenizer.get_vocab_size())
        torch.manual_seed(recipe.seed)
        self.model = Qwen3ForCausalLM(Qwen3Config(**configuration(self.shape, eos_token_id=self.end))).float()
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), betas=(0.9, 0.98), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )
        self.progress = Progress()
        self.questions = distinct(Part.DEVELOPMENT, per_kind=60, seed=DEVELOPMENT_SEED)
        if self.checkpoint.exists():
            self.load()

    def load(self) -> None:
        saved = torch.load(self.checkpoint, weights_only=True)
        if saved["recipe"] != asdict(self.recipe):
            raise SystemExit(f"{self.checkpoint} is of another recipe: remove it to start anew")
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        self.progress = Progress(**saved["progress"])

    def save(self) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state | {"recipe": asdict(self.recipe), "progress": asdict(self.progress)}, partial)
        os.replace(partial, self.checkpoint)

    def run(self) -> None:
        started, loss = time.monotonic() - self.progress.spent_s, 0.0
        while self.progress.step < self.progress.last_step(self.recipe):
            loss = self.one_step()
            self.progress.spent_s = time.monotonic() - started
            if self.progress.step % self.recipe.check_every == 0:
                self.check(loss)

    def one_step(self) -> float:
        batch = training_batch(self.tokenizer, self.recipe.mix, seed=self.recipe.seed, step=self.progress.step)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.progress)
        loss = weighted_loss(self.model, batch)
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.gradient_clip)
        self.optimizer.step()
        self.progress.step += 1
        return loss.item()

    def check(self, loss: float) -> None:
        """Asks the development questions, decides whether to start the decay, saves, and says how it stands."""
        given = answers(self.model, self.tokenizer, [task.question for task in self.questions])
        scores = accuracy(self.questions, given)
        if self.progress.decay_from is None and scores["all"] >= self.recipe.good_enough:
            self.progress.decay_from = self.progress.step
        self.save()
        last = self.progress.last_step(self.recipe)
        left_s = self.progress.spent_s / self.progress.step * (last - self.progress.step)
        print(
            f"step {self.progress.step} of at most {last}, loss {loss:.4f}, development {scores}, "
            f"{self.progress.spent_s:.0f} s spent, at most {left_s:.0f} s left",
            flush=True,
        )

    def write(self, folder: Path) -> None:
        state = {name: tensor.to(torch.bfloat16).contiguous() for name, tensor in self.model.state_dict().items()}
        state.pop("lm_head.weight")  # tied to the embeddings
        save_tokenizer(folder)
        write_model(folder, self.shape, state, eos_token_id=self.end)


def heldout_accuracy(folder: Path, tasks: list[Task]) -> dict[str, float]:
    """Of the weights as saved, in bf16."""
    return accuracy(tasks, answers(load_model(folder), load_tokenizer(folder), [task.question for task in tasks]))


def record(training: Training, folder: Path, tasks: list[Task]) -> dict[str, object]:
    return {
        "recipe": asdict(training.recipe),
        "shape": asdict(training.shape),
        "parameters": parameter_count(training.shape),
        "steps": training.progress.step,
        "decay_from": training.progress.decay_from,
        "training_s": round(training.progress.spent_s),
        "threads": torch.get_num_threads(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
        },
        "heldout": {"questions": len(tasks), "sha256": sha256(HELDOUT), "accuracy": heldout_accuracy(folder, tasks)},
        "weights_sha256": sha256(folder / WEIGHTS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model and write its folder.")
    parser.add_argument("--out", type=Path, default=MODEL)
    parser.add_argument("--work", type=Path, default=DEMO / ".train", help="checkpoints, to resume from")
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    training = Training(Recipe(), asked.work)
    training.run()
    training.save()
    if not HELDOUT.exists():
        write_tasks(heldout(), HELDOUT)
    training.write(asked.out)
    recorded = record(training, asked.out, read_tasks())
    write_json(asked.out / "recipe.json", recorded)
    print(json.dumps(recorded["heldout"]))


if __name__ == "__main__":
    main()
