"""Answers of a model on held-out text, as tables of log-probabilities."""

from __future__ import annotations

from typing import Any

from .headers import keep_tensors
from .samples import REFERENCE_BYTES, batches_of, most_at_once
from .stop import Stop
from .work import Work


def reference_rows(samples: list[list[int]], vocabulary: int) -> int:
    """Rows of the two tables that fit into the file."""
    return min(sum(map(len, samples)), max(1, REFERENCE_BYTES // (2 * 2 * vocabulary)))


def answers(model: Any, samples: list[list[int]]) -> Any:
    """Log-probabilities, float16 [rows, vocabulary], of the held-out samples in order. Several samples at once: a quantized
    model rounds its weights anew for each pass."""
    import torch

    vocabulary = model.get_output_embeddings().weight.shape[0]
    rows, at = reference_rows(samples, vocabulary), 0
    table = torch.empty(rows, vocabulary, dtype=torch.float16)
    for batch in batches_of(samples, most_at_once(samples, vocabulary)):
        with torch.no_grad():
            logits = model(input_ids=torch.tensor(batch, device=model.device), use_cache=False).logits.flatten(0, 1)
        for part in logits[: rows - at].split(256):
            require_numbers(part, at)
            table[at : at + part.shape[0]] = part.float().log_softmax(dim=-1).clamp(min=-65000.0).half().cpu()
            at += part.shape[0]
        if at == rows:
            break
    return table


def require_numbers(logits: Any, at: int) -> None:
    """Raises Stop where a model answers no numbers: nothing that is compared with that means anything. Minus infinity is a
    token that is never given."""
    import torch

    bad = torch.isnan(logits).any(dim=-1) | torch.isposinf(logits).any(dim=-1)
    if bool(bad.any()):
        told = f"the answer at token {at + int(bad.nonzero()[0])} of the held-out text is not a number"
        raise Stop("refused", told, where="held-out text", next="the base is broken, or this format does not suit it")


def base_answers(work: Work, model: Any, samples: list[list[int]]) -> Any:
    """The base's answers, from an earlier start where there was one."""
    from safetensors.torch import load_file

    path = work.work / "base.safetensors"
    if not path.exists():
        work.say("answers of the base on held-out text")
        keep_tensors(path, {"base": answers(model, samples)})
    return load_file(path)["base"]
