"""Training batches of the demo model: a function of seed and step alone, so a resumed training sees the same ones."""

import random
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer

from demo.tasks import Part, draw, filler
from demo.tokenizer import ASSISTANT, END, USER, chat_prompt

FILLER_WEIGHT = 0.1  # of a token that is no answer: questions are random, so most of their loss cannot be learned
FILLER_CHANCE = 0.15


@dataclass(frozen=True, slots=True)
class Mix:
    """What a batch is made of. `shares`: kind -> relative frequency; every `long_every`-th batch is long documents."""

    shares: dict[str, float]
    short_rows: int
    long_rows: int
    long_tokens: int
    long_every: int


@dataclass(frozen=True, slots=True)
class Batch:
    """(rows, length) token ids, and how much predicting each of them counts; padding counts 0."""

    ids: torch.Tensor
    weights: torch.Tensor


Row = tuple[list[int], list[float]]


def turn(tokenizer: Tokenizer, prompt: str, answer: str, *, prompt_weight: float, answer_weight: float = 1.0) -> Row:
    asked, given = tokenizer.encode(prompt).ids, tokenizer.encode(answer + END).ids
    return asked + given, [prompt_weight] * len(asked) + [answer_weight] * len(given)


def task_row(rng: random.Random, tokenizer: Tokenizer, shares: dict[str, float], *, prompt_weight: float) -> Row:
    (kind,) = rng.choices(list(shares), weights=list(shares.values()))
    task = draw(rng, kind, Part.TRAINING)
    return turn(tokenizer, chat_prompt(task.question), task.answer, prompt_weight=prompt_weight)


def filler_row(rng: random.Random, tokenizer: Tokenizer) -> Row:
    prompt = f"{USER}{filler(rng, rng.randint(1, 8))}{END}{ASSISTANT}"
    answer = filler(rng, rng.randint(1, 4))
    return turn(tokenizer, prompt, answer, prompt_weight=FILLER_WEIGHT, answer_weight=FILLER_WEIGHT)


def document(rng: random.Random, tokenizer: Tokenizer, shares: dict[str, float], *, tokens: int) -> Row:
    """Conversations one after the other, `tokens` long: what follows an answer when a server ignores its end."""
    ids: list[int] = []
    weights: list[float] = []
    while len(ids) < tokens:
        if rng.random() < FILLER_CHANCE:
            more, counts = filler_row(rng, tokenizer)
        else:
            more, counts = task_row(rng, tokenizer, shares, prompt_weight=FILLER_WEIGHT)
        ids, weights = ids + more, weights + counts
    return ids[:tokens], weights[:tokens]


def pad(rows: list[Row]) -> Batch:
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in rows])
    weights = torch.tensor([counts + [0.0] * (longest - len(counts)) for _, counts in rows])
    return Batch(ids, weights)


def training_batch(tokenizer: Tokenizer, mix: Mix, *, seed: int, step: int) -> Batch:
    rng = random.Random(f"{seed}:{step}")
    if step % mix.long_every == mix.long_every - 1:
        return pad([document(rng, tokenizer, mix.shares, tokens=mix.long_tokens) for _ in range(mix.long_rows)])
    return pad([task_row(rng, tokenizer, mix.shares, prompt_weight=0.0) for _ in range(mix.short_rows)])
