"""Two models' answers on the same text: KL divergence and first choices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .finite import divergence
from .hooks import Placed
from .job import Job
from .samples import batches_of, most_at_once
from .stop import Stop


def log_probabilities(
    model: Any, rows: list[list[int]], most: int, placed: Placed | None, say: Callable[[int, int, str], None]
) -> Iterator[Any]:
    """[tokens, vocabulary] float32 of a few tokens after the other, `most` rows in all."""
    import torch

    done, told = 0, 0
    for batch in batches_of(rows, most_at_once(rows, model.get_output_embeddings().weight.shape[0])):
        if done >= most:
            return
        say(told, len(rows), f"held-out sample {told + 1} of {len(rows)}")
        told += len(batch)
        ids = torch.tensor(batch, device="cpu" if model.device.type == "meta" else model.device)
        with torch.no_grad(), placed.watching() if placed else nullcontext():
            logits = model(input_ids=ids, use_cache=False).logits.flatten(0, 1)
        for part in logits[: most - done].split(256):
            done += len(part)
            yield torch.log_softmax(part.float().cpu(), dim=-1).clamp(min=-65000.0)  # a token that is never given


@dataclass
class Sums:
    """Sums over rows: of KL(p || q) in nats, and of agreeing first choices."""

    kl: float = 0.0
    agree: int = 0
    rows: int = 0

    def add(self, p: Any, q: Any) -> None:
        """Log-probabilities, [rows, vocabulary]. `p` is normalized again: float16 had rounded it."""
        import torch

        for table in (p, q):
            if not bool(torch.isfinite(table).all()):
                row = int((~torch.isfinite(table)).any(dim=-1).nonzero()[0]) + self.rows
                told = f"the answer at token {row} of the held-out text is NaN or infinite"
                raise Stop(
                    "refused",
                    told,
                    where="reference.safetensors or the export, on held-out text",
                    next="quantize again; the base itself was looked at",
                )
        p, q = torch.log_softmax(p.double(), -1), torch.log_softmax(q.double(), -1)
        self.kl += float((p.exp() * (p - q)).sum())
        self.agree += int((p.argmax(-1) == q.argmax(-1)).sum())
        self.rows += len(p)

    @property
    def mean(self) -> float:
        return divergence(self.kl, self.rows)

    @property
    def top1(self) -> float:
        return self.agree / self.rows


@dataclass(frozen=True)
class Compared:
    base_in_process: Sums
    base_back: Sums
    back: Sums


def compare(job: Job, reloaded: Iterator[Any]) -> Compared:
    from safetensors import safe_open

    sums, at = Compared(Sums(), Sums(), Sums()), 0
    with safe_open(job.work / "reference.safetensors", framework="pt") as file:
        base, quantized = file.get_slice("base"), file.get_slice("quantized")
        for mine in reloaded:
            b, q = base[at : at + len(mine)], quantized[at : at + len(mine)]
            sums.base_in_process.add(b, q)
            sums.base_back.add(b, mine)
            sums.back.add(q, mine)
            at += len(mine)
    return sums


def kept_rows(file: Path) -> int:
    with file.open("rb") as f:
        header = json.loads(f.read(int.from_bytes(f.read(8), "little")))
    return int(header["quantized"]["shape"][0])
