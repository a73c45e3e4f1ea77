"""Growing a Qwen3 model without changing its answers: tensors in, tensors out.

Wider MLPs get random rows that feed near-zero columns; new layers are random inside and near-zero where they write to
the residual stream. The work per token is real, what it adds is below bf16 rounding. Near-zero and not zero: a
quantizer scales each output row by its largest weight and would divide by zero in a new layer.
"""

import math
from dataclasses import replace

import torch

from demo.folder import INIT_STD, Shape, initial_tensor, layer_name, parameter_count

NEAR_ZERO_STD = INIT_STD * 1e-4
WRITES_TO_RESIDUAL = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
MLP_STEP = 64  # widths are multiples of it: what matrix kernels tile well
Tensors = dict[str, torch.Tensor]


def near_zero(size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    return (torch.randn(size, generator=generator) * NEAR_ZERO_STD).to(torch.bfloat16)


def grown_shape(source: Shape, *, layers: int, min_parameters: float) -> Shape:
    """`layers` layers, and MLPs as wide as `min_parameters` asks. Raises ValueError for too few layers."""
    if layers < source.num_hidden_layers:
        raise ValueError(f"{layers} layers are fewer than the source's {source.num_hidden_layers}")
    deep = replace(source, num_hidden_layers=layers)
    missing = max(0.0, min_parameters - parameter_count(deep))
    per_step = 3 * MLP_STEP * source.hidden_size * layers
    return replace(deep, intermediate_size=source.intermediate_size + MLP_STEP * math.ceil(missing / per_step))


def source_positions(source_layers: int, layers: int) -> dict[int, int]:
    """Position in the grown model -> layer of the source, spread evenly and in order: 2 among 5 stand at 0 and 4."""
    spread = (layers - 1) / max(1, source_layers - 1)
    return {round(layer * spread): layer for layer in range(source_layers)}


def widened(name: str, tensor: torch.Tensor, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """The source's tensor, with new rows (gate, up) or new near-zero columns (down) up to `size`."""
    missing_rows, missing_columns = size[0] - tensor.shape[0], size[-1] - tensor.shape[-1]
    if name == "mlp.down_proj.weight" and missing_columns:
        return torch.cat([tensor, near_zero((size[0], missing_columns), generator)], dim=1)
    if missing_rows:
        return torch.cat([tensor, initial_tensor(name, (missing_rows, size[1]), generator)], dim=0)
    return tensor


def inserted(name: str, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """A tensor of a layer that the source does not have."""
    if name in WRITES_TO_RESIDUAL:
        return near_zero(size, generator)
    return initial_tensor(name, size, generator)


def grow(source: Tensors, source_shape: Shape, shape: Shape, *, seed: int) -> Tensors:
    """The tensors of `shape` that answer as `source` does; the same seed gives the same bytes."""
    generator = torch.Generator().manual_seed(seed)
    positions = source_positions(source_shape.num_hidden_layers, shape.num_hidden_layers)
    grown = {name: source[name] for name in ("model.embed_tokens.weight", "model.norm.weight")}
    for layer in range(shape.num_hidden_layers):
        for name, size in shape.layer_tensors().items():
            if layer in positions:
                tensor = widened(name, source[layer_name(positions[layer], name)], size, generator)
            else:
                tensor = inserted(name, size, generator)
            grown[layer_name(layer, name)] = tensor
    return grown
