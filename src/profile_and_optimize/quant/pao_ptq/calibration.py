"""The loop that both backends calibrate with, and how many tokens each expert saw."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .structure import Experts, experts_in
from .work import Work


@dataclass
class TokenCount:
    """How many tokens each expert was given, counted where the router's choice enters the experts."""

    counts: dict[str, Any] = field(default_factory=dict)
    hooks: list[Any] = field(default_factory=list)

    def watch(self, model: Any) -> None:
        import torch

        for e in experts_in(model):
            module = model.get_submodule(e.name)
            if type(module).forward is torch.nn.Module.forward:  # a list, whose experts are called one by one
                self.hooks += [x.register_forward_pre_hook(self._rows(e, i)) for i, x in enumerate(module)]
                continue
            self.hooks.append(module.register_forward_pre_hook(self._choice(e), with_kwargs=True))
            parent = model.get_submodule(e.name.rpartition(".")[0])
            router = getattr(parent, "router", None) or getattr(parent, "gate", None)
            if router is not None and "Llama4" in type(module).__name__:
                self.hooks.append(router.register_forward_hook(self._scores(e)))

    def _add(self, e: Experts, seen: Any) -> None:
        before = self.counts.get(e.name)
        self.counts[e.name] = seen if before is None else before + seen

    def _choice(self, e: Experts) -> Callable[..., None]:
        import torch

        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for value in (*args, *kwargs.values()):
                if isinstance(value, torch.Tensor) and not value.is_floating_point() and value.dtype != torch.bool:
                    self._add(e, torch.bincount(value.flatten().cpu(), minlength=e.count)[: e.count])
                    return

        return hook

    def _rows(self, e: Experts, number: int) -> Callable[..., None]:
        import torch

        def hook(module: Any, args: tuple[Any, ...]) -> None:
            seen = torch.zeros(e.count, dtype=torch.int64)
            seen[number] = args[0].numel() // args[0].shape[-1]
            self._add(e, seen)

        return hook

    def _scores(self, e: Experts) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], output: Any) -> None:
            """Llama 4 hands every token to every expert and weighs those not chosen with zero."""
            scores = output[0] if isinstance(output, tuple) else output
            chosen = (scores != 0).reshape(-1, e.count).sum(dim=0) if scores.shape[-1] == e.count else None
            if chosen is not None:
                self._add(e, chosen.cpu())

        return hook

    def stop(self) -> None:
        for hook in self.hooks:
            hook.remove()
        self.hooks.clear()


@dataclass
class Calibration:
    """Runs the samples through the model. `ranges` reads the backend's collected state as tensors by name and `restore`
    puts them back; both None where a backend's state cannot be carried over a kill."""

    work: Work
    batches: list[list[list[int]]]
    tokens: TokenCount
    ranges: Callable[[], dict[str, Any]] | None = None
    restore: Callable[[dict[str, Any]], None] | None = None

    @property
    def path(self) -> Path:
        return self.work.work / "ranges.safetensors"

    def __call__(self, model: Any) -> None:
        import torch

        start, began = self._resume(), time.monotonic()
        if start == 0:
            self.tokens.counts.clear()  # a search passes the text through more than once
        every, of = max(1, len(self.batches) // 32), len(self.batches)
        for at in range(start, of):
            with torch.no_grad():
                model(input_ids=torch.tensor(self.batches[at], device=model.device), use_cache=False)
            spent = time.monotonic() - began
            left = spent / (at + 1 - start) * (of - at - 1)
            if (at + 1) % every == 0 or at + 1 == of:
                self._keep(at + 1)
                self.work.say(f"calibration, batch {at + 1} of {of}", done=at + 1, of=of, left_s=left)

    def _keep(self, done: int) -> None:
        from safetensors.torch import save_file

        if self.ranges is None:
            return
        tensors = {f"range.{name}": value.contiguous().clone() for name, value in self.ranges().items()}
        tensors |= {f"tokens.{name}": value for name, value in self.tokens.counts.items()}
        half = self.path.with_name(".ranges.half")
        save_file(tensors, half, metadata={"done": str(done), "job": self.work.job.job_digest})
        half.replace(self.path)

    def _resume(self) -> int:
        from safetensors import safe_open

        if self.restore is None or not self.path.exists():
            return 0
        with safe_open(self.path, framework="pt") as file:
            kept = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            done = int(file.metadata()["done"])
        self.restore({n.removeprefix("range."): v for n, v in kept.items() if n.startswith("range.")})
        self.tokens.counts = {n.removeprefix("tokens."): v for n, v in kept.items() if n.startswith("tokens.")}
        self.work.note(f"calibration resumes after batch {done} of {len(self.batches)}")
        return done
