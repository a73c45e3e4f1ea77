"""Greedy answers of a model folder to tasks, and how many are right. Needs torch and transformers."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from demo.tasks import Task
from demo.tokenizer import END, chat_prompt

LONGEST_ANSWER = 12  # tokens; the longest right one is four words and the end of the turn
BATCH = 64


def load_model(folder: Path) -> PreTrainedModel:
    """The model as shipped: bf16, ready to answer."""
    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, local_files_only=True).eval()


def load_tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@torch.inference_mode()
def greedy(model: PreTrainedModel, prompts: torch.Tensor, steps: int) -> torch.Tensor:
    """(batch, length) prompt ids -> (batch, steps) most likely continuations."""
    ids, past, chosen = prompts, None, []
    for _ in range(steps):
        output = model(input_ids=ids, past_key_values=past, use_cache=True)
        past, ids = output.past_key_values, output.logits[:, -1:].argmax(-1)
        chosen.append(ids)
    return torch.cat(chosen, dim=1)


def answers(model: PreTrainedModel, tokenizer: Tokenizer, questions: Sequence[str]) -> list[str]:
    """One answer a question, cut at the end of the turn, in the order of the questions."""
    prompts = [tokenizer.encode(chat_prompt(question)).ids for question in questions]
    by_length: dict[int, list[int]] = defaultdict(list)  # equal lengths batch without padding or masks
    for index, prompt in enumerate(prompts):
        by_length[len(prompt)].append(index)
    given = [""] * len(prompts)
    for indices in by_length.values():
        for start in range(0, len(indices), BATCH):
            chunk = indices[start : start + BATCH]
            chosen = greedy(model, torch.tensor([prompts[i] for i in chunk]), LONGEST_ANSWER)
            for index, ids in zip(chunk, chosen.tolist(), strict=True):
                given[index] = tokenizer.decode(ids, skip_special_tokens=False).split(END)[0]
    return given


def accuracy(tasks: Sequence[Task], given: Sequence[str]) -> dict[str, float]:
    """Share of exactly right answers per kind, and over all tasks as "all"."""
    right: dict[str, list[bool]] = defaultdict(list)
    for task, answer in zip(tasks, given, strict=True):
        right[task.kind].append(answer == task.answer)
        right["all"].append(answer == task.answer)
    return {kind: round(sum(results) / len(results), 4) for kind, results in sorted(right.items())}
