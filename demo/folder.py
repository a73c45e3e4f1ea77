"""Model folders of the Qwen3 architecture: shape, configuration, tensor names, files.

Written by hand rather than through transformers: a folder of any shape takes a second and needs no model object.
"""

import hashlib
import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

WEIGHTS = "model.safetensors"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
)
INIT_STD = 0.02  # Qwen3Config.initializer_range
MAX_POSITIONS = 2048
ROPE_THETA = 10000.0


@dataclass(frozen=True, slots=True)
class Shape:
    """A Qwen3 shape; the embeddings are tied. Sizes are in elements, named as in config.json."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int

    def __post_init__(self) -> None:
        if min(asdict(self).values()) < 1:
            raise ValueError(f"every size must be at least 1: {self}")
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(f"{self.num_attention_heads} heads do not divide by {self.num_key_value_heads} kv heads")

    def layer_tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of one layer, by its name inside the layer."""
        hidden, inner, head = self.hidden_size, self.intermediate_size, self.head_dim
        queries, keys = self.num_attention_heads * head, self.num_key_value_heads * head
        return {
            "input_layernorm.weight": (hidden,),
            "self_attn.q_proj.weight": (queries, hidden),
            "self_attn.k_proj.weight": (keys, hidden),
            "self_attn.v_proj.weight": (keys, hidden),
            "self_attn.o_proj.weight": (hidden, queries),
            "self_attn.q_norm.weight": (head,),
            "self_attn.k_norm.weight": (head,),
            "post_attention_layernorm.weight": (hidden,),
            "mlp.gate_proj.weight": (inner, hidden),
            "mlp.up_proj.weight": (inner, hidden),
            "mlp.down_proj.weight": (hidden, inner),
        }

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Shape of each tensor of the model, by its name in the weights file."""
        named = {
            "model.embed_tokens.weight": (self.vocab_size, self.hidden_size),
            "model.norm.weight": (self.hidden_size,),
        }
        for layer in range(self.num_hidden_layers):
            named |= {layer_name(layer, name): size for name, size in self.layer_tensors().items()}
        return named


def layer_name(layer: int, name: str) -> str:
    return f"model.layers.{layer}.{name}"


def parameter_count(shape: Shape) -> int:
    return sum(torch.Size(size).numel() for size in shape.tensors().values())


def initial_tensor(name: str, size: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """bf16: ones for a norm, else normal with the architecture's usual deviation."""
    if name.endswith("norm.weight"):
        return torch.ones(size, dtype=torch.bfloat16)
    return (torch.randn(size, generator=generator) * INIT_STD).to(torch.bfloat16)


def configuration(shape: Shape, *, eos_token_id: int | None) -> dict[str, object]:
    """config.json. Rope settings stand twice: transformers 5 reads `rope_parameters`, older readers `rope_theta`."""
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **asdict(shape),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "dtype": "bfloat16",
        "eos_token_id": eos_token_id,
        "hidden_act": "silu",
        "initializer_range": INIT_STD,
        "max_position_embeddings": MAX_POSITIONS,
        "pad_token_id": None,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_theta": ROPE_THETA, "rope_type": "default"},
        "rope_theta": ROPE_THETA,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
    }


def read_shape(folder: Path) -> Shape:
    config = json.loads((folder / "config.json").read_text())
    return Shape(**{name: config[name] for name in Shape.__dataclass_fields__})


def write_model(folder: Path, shape: Shape, tensors: dict[str, torch.Tensor], *, eos_token_id: int | None) -> None:
    """Writes config.json, generation_config.json and the weights. Raises ValueError when a tensor has another shape."""
    sizes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    if sizes != shape.tensors():
        raise ValueError(
            f"tensors do not fit the shape: {sorted(set(sizes.items()) ^ set(shape.tensors().items()))[:4]}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", configuration(shape, eos_token_id=eos_token_id))
    # No temperature here: transformers refuses to save a 0 again. Whoever wants greedy answers asks for temperature 0.
    generation = {"do_sample": False, "eos_token_id": eos_token_id}
    write_json(folder / "generation_config.json", {k: v for k, v in generation.items() if v is not None})
    save_file(tensors, str(folder / WEIGHTS), metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # the library makes it private, and a server may run as another user


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def copy_tokenizer(source: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
