"""A Qwen3 model folder of any shape with random weights: the right amount of work, no sense in its answers.

python -m demo.random_model --out DIR --hidden-size 768 --layers 12 --heads 12 --kv-heads 4 --head-dim 64
    --intermediate-size 2304 [--tokenizer DIR] [--vocab-size N] [--seed 0]
"""

import argparse
from pathlib import Path

import torch
from tokenizers import Tokenizer

from demo.folder import Shape, copy_tokenizer, initial_tensor, parameter_count, write_model
from demo.tokenizer import END, save_tokenizer


def write_tokenizer(source: Path | None, folder: Path) -> Tokenizer:
    """Copies the given tokenizer's files into `folder`, or makes the demo tokenizer there."""
    if source is None:
        return save_tokenizer(folder)
    copy_tokenizer(source, folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def random_tensors(shape: Shape, *, seed: int) -> dict[str, torch.Tensor]:
    """bf16 tensors in a fixed order from one generator: the same seed and shape give the same bytes."""
    generator = torch.Generator().manual_seed(seed)
    return {name: initial_tensor(name, size, generator) for name, size in shape.tensors().items()}


def vocabulary_size(tokenizer: Tokenizer, asked: int | None) -> int:
    """The tokenizer's own size unless more is asked for. Ids above it have no text: a chunk may be empty."""
    own = tokenizer.get_vocab_size()
    if asked is not None and asked < own:
        raise SystemExit(f"--vocab-size {asked} is less than the tokenizer's {own}")
    return asked or own


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Write a Qwen3 model folder with random weights.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json (default: the demo tokenizer)")
    for name in ("hidden-size", "layers", "heads", "kv-heads", "head-dim", "intermediate-size"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--vocab-size", type=int)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    asked = parse()
    tokenizer = write_tokenizer(asked.tokenizer, asked.out)
    shape = Shape(
        vocab_size=vocabulary_size(tokenizer, asked.vocab_size),
        hidden_size=asked.hidden_size,
        intermediate_size=asked.intermediate_size,
        num_hidden_layers=asked.layers,
        num_attention_heads=asked.heads,
        num_key_value_heads=asked.kv_heads,
        head_dim=asked.head_dim,
    )
    write_model(asked.out, shape, random_tensors(shape, seed=asked.seed), eos_token_id=tokenizer.token_to_id(END))
    print(f"{parameter_count(shape)} parameters in {asked.out}")


if __name__ == "__main__":
    main()
