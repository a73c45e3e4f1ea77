"""Hooks on a plain model that round the inputs of its matrix products."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from .inputs import Rounding
from .names import key
from .stop import Stop


class Placed:
    """Hooks that round inputs: on linear modules, and inside modules that hold experts as 3D parameters."""

    def __init__(self, model: Any, given: dict[str, Rounding]) -> None:
        import torch

        self.inside: list[tuple[Any, dict[str, list[Rounding]]]] = []
        left, by_tail = dict(given), {key(n): n for n in given}
        for name, module in model.named_modules():
            stacks = {
                n: p
                for n, p in module.named_parameters(recurse=False)
                if p.ndim == 3 and "Conv" not in type(module).__name__
            }
            if isinstance(module, torch.nn.Linear):
                mine = name if name in left else by_tail.get(key(name))
                if mine in left:
                    module.register_forward_pre_hook(_first_input(left.pop(mine)))
            elif stacks and given:
                by_stack = {n: self._of_stack(name, n, p.shape[0], left) for n, p in stacks.items()}
                if any(by_stack.values()):
                    module.register_forward_pre_hook(self._enter(by_stack))
                    module.register_forward_hook(self._leave)
        if left:
            raise Stop("refused", f"{len(left)} quantized matrices were not found in the model that was read back",
                       where=sorted(left)[0], next="another backend, or leave them out")  # fmt: skip

    @staticmethod
    def _of_stack(module: str, parameter: str, count: int, left: dict[str, Rounding]) -> list[Rounding]:
        """Of each expert; `gate_up_proj` has the input of gate and of up."""
        whole = next((n for n in left if key(n) == key(f"{module}.{parameter}")), None)
        if whole is not None:
            return [left.pop(whole)] * count
        last = (
            ("down_proj", "w2")
            if parameter in ("down_proj", "w2")
            else ("gate_proj", "w1", "up_proj", "w3", "gate_up_proj")
        )
        found: list[Rounding] = []
        for e in range(count):
            wanted = [*re.findall(r"\d+", module), str(e)]
            mine = [
                n
                for n in left
                if "experts." in n
                and n.rpartition(".")[2] in last
                and re.findall(r"\d+", n.rpartition(".")[0]) == wanted
            ]
            taken = [left.pop(n) for n in sorted(mine)]
            if len({(t.format, t.scale) for t in taken}) > 1:
                raise Stop(
                    "refused", "gate and up have one input and two scales for it", where=mine[0], next="quantize again"
                )
            found += taken[:1]
        return found if len(found) == count else []

    def _enter(self, by_stack: dict[str, list[Rounding]]) -> Callable[..., None]:
        def hook(module: Any, args: Any) -> None:
            self.inside.append((module, by_stack))

        return hook

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        self.inside.pop()

    def rounding(self, weight: Any) -> Rounding | None:
        """For a matrix product inside a module of experts: which of its parameters, and which expert, is `weight`?"""
        import torch

        if not self.inside or not isinstance(weight, torch.Tensor) or weight.dim() < 2:
            return None
        module, by_stack = self.inside[-1]
        for name, given in by_stack.items():
            stack = getattr(module, name)
            if given and stack.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr():
                at = (weight.storage_offset() - stack.storage_offset()) // stack.stride(0)
                if 0 <= at < len(given):
                    return given[at]
        return None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Inside, a product with an expert's matrix has its input rounded first."""
        import torch
        from torch.overrides import TorchFunctionMode

        placed = self
        products = {
            torch.nn.functional.linear,
            torch.matmul,
            torch.bmm,
            torch.Tensor.matmul,
            torch.Tensor.bmm,
            torch.Tensor.__matmul__,
        }

        class Watch(TorchFunctionMode):
            def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                if func in products and len(args) > 1 and (how := placed.rounding(args[1])) is not None:
                    args = (how(args[0]), *args[1:])
                return func(*args, **(kwargs or {}))

        with Watch():
            yield


def _first_input(how: Rounding) -> Callable[..., Any]:
    def hook(module: Any, args: Any) -> Any:
        return (how(args[0]), *args[1:])

    return hook


def jitter(model: Any, seed: int) -> None:
    """Every matrix product's result moved by up to half a bf16 step, as another order of additions may: a mixture's too,
    which is summed expert by expert."""
    import torch

    draw = torch.Generator(device="cpu").manual_seed(seed)

    def moved(module: Any, args: Any, output: Any) -> Any:
        if not torch.is_tensor(output):
            return output
        shift = (torch.rand(output.shape, generator=draw).to(output.device) - 0.5) * 2**-7
        return (output.float() * (1 + shift)).to(output.dtype)

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) or name.endswith("experts"):
            module.register_forward_hook(moved)
