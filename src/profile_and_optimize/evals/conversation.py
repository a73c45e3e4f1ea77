"""What of a model's folder decides how it is asked: its chat template, and what its generation_config says.

Two folders with the same weights answer differently where these differ, so a comparison of two models names them. Pure but for
the reading.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import canonical, digest_of
from profile_and_optimize.evals.pao_eval.sampling import NEUTRAL as PLAIN
from profile_and_optimize.evals.pao_eval.sampling import Pins, undecided
from profile_and_optimize.evidence.given import read_given
from profile_and_optimize.evidence.reading import strict_json

DEFAULT = "default"
MOST_PATH = 4096
MOST_EXACT = 2**53  # beyond it two whole numbers may be one float
# Of a generation_config what no answer depends on: where it came from, and what else a call gives back.
BOOKKEEPING = {
    "_from_model_config", "transformers_version", "_commit_hash", "return_dict_in_generate", "output_scores", "output_logits",
    "output_attentions", "output_hidden_states", "use_cache", "cache_implementation", "cache_config", "return_legacy_cache",
    "compile_config", "disable_compile", "pad_token_id", "bos_token_id",
}  # fmt: skip
# What a field means where it is left out. `top_k` is not among them: left out it is 50 for one engine and none for another.
NEUTRAL: dict[str, Any] = {
    **{name: value for name, value in PLAIN.items() if name != "top_k"}, "do_sample": False, "temperature": 1.0, "typical_p": 1.0,
    "epsilon_cutoff": 0.0, "eta_cutoff": 0.0, "encoder_repetition_penalty": 1.0, "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0, "diversity_penalty": 0.0, "length_penalty": 1.0, "num_beams": 1, "num_beam_groups": 1,
    "num_return_sequences": 1, "early_stopping": False, "min_length": 0, "min_new_tokens": 0, "max_length": 20,
    "penalty_alpha": 0.0, "guidance_scale": 1.0, "renormalize_logits": False, "remove_invalid_values": False, "is_assistant": False,
}  # fmt: skip
EOS = "eos_token_id"
_TOKEN = re.compile(r"\b((?:bos|eos|pad|unk|sep|cls|mask)_token)\b")


@dataclass(frozen=True, slots=True)
class Conversation:
    """`templates` by name and `tokens` that they write, as text; `generation` as the file has it, with the ends of an answer that
    config.json gives where the file gives none."""

    templates: tuple[tuple[str, str], ...]
    tokens: tuple[tuple[str, str], ...]
    generation: tuple[tuple[str, Any], ...]

    @property
    def template_sha256(self) -> str:
        return digest_of([[[name, _plain(text)] for name, text in self.templates], list(self.tokens)])

    @property
    def matters(self) -> dict[str, Any]:
        """What of the generation_config answers depend on."""
        told = {k: _number(v) for k, v in self.generation if k not in BOOKKEEPING and v is not None}
        if EOS in told:
            told[EOS] = _ends(told[EOS])
        return {k: v for k, v in sorted(told.items()) if k not in NEUTRAL or v != _number(NEUTRAL[k])}

    @property
    def generation_sha256(self) -> str:
        return digest_of(self.matters)

    def to_json(self) -> dict[str, Any]:
        return {
            "templates": dict(self.templates), "tokens": dict(self.tokens), "generation": dict(self.generation),
            "template_sha256": self.template_sha256, "generation_sha256": self.generation_sha256,
        }  # fmt: skip


def conversation_of(raw: Mapping[str, Any]) -> Conversation:
    """From a record. Raises ValueError where its digests are not those of what it holds."""
    found = Conversation(*(tuple(sorted(raw[name].items())) for name in ("templates", "tokens", "generation")))
    if found.to_json() != dict(raw):
        raise ValueError(
            "the digests of its chat template or generation_config differ from those of the texts it holds"
        )
    return found


def read_conversation(folder: Path, template: str | None = None) -> Conversation | None:
    """Of a model's folder; None where it is none. `template` is what the server is told to use in place of the folder's: a file, or
    the text or name itself.
    Raises WrongUse naming the file that is no JSON object, or whose template is no text."""
    if not folder.is_dir():
        return None
    tokenizer, config = (_object(folder / name) for name in ("tokenizer_config.json", "config.json"))
    templates = _templates(folder, tokenizer) if template is None else {DEFAULT: _given(template)}
    named = sorted({name for text in templates.values() for name in _TOKEN.findall(text)})
    texts = {name: _token(folder, tokenizer, name) for name in named}
    generation = _object(folder / "generation_config.json")
    if generation.get(EOS) is None:
        inner = config.get("text_config")
        ends = config.get(EOS, inner.get(EOS) if isinstance(inner, dict) else None)
        generation = {**generation, **({EOS: ends} if ends is not None else {})}
    return Conversation(*(tuple(sorted(part.items())) for part in (templates, texts, generation)))


def left_to_server(pins: Pins, temperature: float, asked_by: Conversation | None) -> tuple[str, ...]:
    """Sampling parameters that no request could pin and that its generation_config may have decided: of a folder those that it
    sets, behind an endpoint all of them."""
    loose = undecided(pins, temperature)
    return loose if asked_by is None else tuple(name for name in loose if name in asked_by.matters)


def differences(base: Conversation, candidate: Conversation) -> Iterator[str]:
    """Everything that would be asked, or ended, in another way, as a line."""
    one, two = dict(base.templates), dict(candidate.templates)
    for name in sorted({*one, *two}):
        if _plain(one.get(name, "")) != _plain(two.get(name, "")) or (name in one) != (name in two):
            yield f"chat template {name!r}: {_sides(_size(one.get(name)), _size(two.get(name)))}"
    yield from _fields("chat template: ", dict(base.tokens), dict(candidate.tokens))
    yield from _fields("generation_config: ", base.matters, candidate.matters)


def _fields(where: str, one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted({*one, *two}):
        if (name in one) != (name in two) or digest_of(one[name]) != digest_of(two[name]):
            yield f"{where}{name} {_sides(_shown(one, name), _shown(two, name))}"


def _sides(base: str, candidate: str) -> str:
    return f"{base} in the base, {candidate} in the candidate"


def _shown(side: Mapping[str, Any], name: str) -> str:
    if name not in side:
        return "not set"
    value = side[name]
    return repr(int(value) if isinstance(value, float) and value.is_integer() else value)[:60]


def _size(template: str | None) -> str:
    return "none" if template is None else f"{len(template)} characters ({digest_of(_plain(template))[:12]})"


def _plain(template: str) -> str:
    """As a renderer reads it: one kind of line end, and the last one does not count."""
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n")


def _number(value: Any) -> Any:
    """1 and 1.0 mean the same; yes and no are not numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return [_number(v) for v in value] if isinstance(value, list) else value
    return float(value) if abs(value) < MOST_EXACT else value


def _ends(value: Any) -> Any:
    """One token or several, in any order, are a set of tokens that end an answer."""
    several = value if isinstance(value, list) else [value]
    numbers = all(isinstance(v, float) for v in several)
    return sorted({int(v) for v in several}) if numbers else several


def _object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        found = strict_json(read_given(path))
        canonical(found)  # half surrogates are no text
    except ValueError as e:
        raise WrongUse(f"not JSON: {e}", where=str(path), next="correct the file") from e
    if not isinstance(found, dict):
        raise WrongUse("not a JSON object", where=str(path), next="correct the file")
    return found


def _given(template: str) -> str:
    path = Path(template)
    return read_given(path).decode("utf-8", "replace") if len(template) < MOST_PATH and path.is_file() else template


def _templates(folder: Path, tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """By name. A file of its own goes before the tokenizer's field, as the tokenizer's library has it."""
    told = tokenizer.get("chat_template")
    found = (
        {t.get("name"): t.get("template") for t in told if isinstance(t, dict)}
        if isinstance(told, list)
        else {DEFAULT: told}
    )
    found = {name: text for name, text in found.items() if text is not None}
    older = folder / "chat_template.json"
    if DEFAULT not in found and (text := _object(older).get("chat_template")) is not None:
        found[DEFAULT] = text
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        found[path.stem] = read_given(path).decode("utf-8", "replace")
    if (own := folder / "chat_template.jinja").is_file():
        found[DEFAULT] = read_given(own).decode("utf-8", "replace")
    if not all(isinstance(name, str) and isinstance(text, str) for name, text in found.items()):
        raise WrongUse("its chat template is not a text", where=str(folder), next="correct tokenizer_config.json")
    return {str(name): str(text) for name, text in found.items()}


def _token(folder: Path, tokenizer: Mapping[str, Any], name: str) -> str:
    """The text of a special token, "" where there is none."""
    value = tokenizer.get(name, _object(folder / "special_tokens_map.json").get(name))
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
