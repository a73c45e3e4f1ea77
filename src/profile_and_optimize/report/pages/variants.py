"""What a cell is, for colour, marker and place: hardware, quantization, TP, EP or TP, speculation, batched tokens.

What neither the server showed nor the flags asked for is unknown, and stays so. Both engines whose flags we know leave expert
parallelism and speculative decoding off unless asked, so with their flags on record "not asked" is "off".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.report.words import UNKNOWN, plain

# Engines whose every flag is on record when we or the user's sweep started them.
OPT_IN = ("vllm", "sglang")
PER_GPU, PER_NODE, WHOLE = "gpu", "cpu", "whole"

_TP = ("--tensor-parallel-size", "-tp", "--tp-size", "--tp")
_PP = ("--pipeline-parallel-size", "-pp", "--pp-size")
_DP = ("--data-parallel-size", "-dp", "--dp-size", "--dp")
_MBT = ("--max-num-batched-tokens",)
_EP_ON = ("--enable-expert-parallel", "--enable-ep-moe")
_EP_SIZE = ("--expert-parallel-size", "--ep-size", "--ep")
_SPEC = ("--speculative-config", "--speculative-algorithm", "--speculative-model", "--spec-method")
_METHOD = re.compile(r"mtp|nextn|eagle3?|ngram|medusa", re.I)
_NO = ("", "none", "off", "false", "0", "1")


@dataclass(frozen=True, slots=True)
class Variant:
    """`gpus` is how many GPUs the numbers of this cell are divided by, None where that is unknown or there are none;
    `basis` says which: per GPU, per node without GPUs, or the whole deployment. `spec` is off, unknown or its method."""

    engine: str
    hardware: str
    quant: str
    tp: str
    strategy: str
    spec: str
    mbt: int | None
    gpus: int | None
    basis: str

    @property
    def facets(self) -> tuple[str, ...]:
        """Everything but the batched tokens, as short words for a row of a table."""
        spec = {"off": "", UNKNOWN: "MTP unknown"}.get(self.spec, self.spec)
        quant = "" if self.quant == UNKNOWN else self.quant
        strategy = "EP/TP unknown" if self.strategy == UNKNOWN else self.strategy
        return self.engine, self.hardware, quant, tp_words(self.tp), strategy, spec

    @property
    def fill(self) -> str:
        return {"off": "full", UNKNOWN: "half"}.get(self.spec, "hollow")


def tp_words(tp: str) -> str:
    return "TP unknown" if tp == UNKNOWN else f"TP{tp}"


def variant_of(row: Mapping[str, Any]) -> Variant:
    flags = Flags(row)
    tp = flags.value("tp", _TP)
    hardware, basis, gpus = _device(row, flags, tp)
    return Variant(
        engine=plain(row["engine"]), hardware=hardware, quant=_quant(flags), tp=tp, strategy=_strategy(flags, tp),
        spec=_spec(flags), mbt=_count(flags.value("max_num_batched_tokens", _MBT)), gpus=gpus, basis=basis,
    )  # fmt: skip


class Flags:
    """The context of a row: a field as observed, else as asked, else from the flags, else unknown."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self.context: Mapping[str, Mapping[str, str]] = row["context"]
        asked = self.context.get("flags", {}).get("asked", UNKNOWN)
        self.known = row["engine"] in OPT_IN and asked != UNKNOWN
        self.words = asked.split() if self.known else []

    def field(self, name: str) -> str:
        found = self.context.get(name, {})
        seen = next((found[k] for k in ("observed", "asked") if found.get(k, UNKNOWN) != UNKNOWN), UNKNOWN)
        return plain(seen) or UNKNOWN

    def option(self, names: tuple[str, ...]) -> str | None:
        """The last value given for one of these options; "" for one without a value, None where none was asked."""
        found = None
        for i, word in enumerate(self.words):
            name, given, value = word.partition("=")
            if name in names:
                after = self.words[i + 1] if i + 1 < len(self.words) else ""
                found = value if given else "" if after.startswith("-") else after
        return found

    def value(self, name: str, options: tuple[str, ...]) -> str:
        known = self.field(name)
        return known if known != UNKNOWN else plain(self.option(options) or "") or UNKNOWN


def _device(row: Mapping[str, Any], flags: Flags, tp: str) -> tuple[str, str, int | None]:
    """(hardware, basis, GPUs). Hardware is named `cpu:...` or `gpu:...` by whoever looked; without either, who knows."""
    named = flags.field("hardware")
    kind, _, name = named.partition(":")
    if kind == "cpu":
        return f"CPU {name}".strip(), PER_NODE, None
    gpus = _gpus(row, flags, tp) if kind == "gpu" else None
    return (name or UNKNOWN) if kind == "gpu" else named, PER_GPU if gpus else WHOLE, gpus


def _gpus(row: Mapping[str, Any], flags: Flags, tp: str) -> int | None:
    """TP x PP x DP; with data-parallel attention SGLang's replicas share the GPUs of TP."""
    shared = row["engine"] == "sglang" and "--enable-dp-attention" in flags.words
    sizes = [_count(tp), _size(flags, "pp", _PP), 1 if shared else _size(flags, "dp", _DP)]
    product = 1
    for size in sizes:
        if size is None:
            return None
        product *= size
    return product


def _size(flags: Flags, name: str, options: tuple[str, ...]) -> int | None:
    value = flags.value(name, options)
    return 1 if value == UNKNOWN and flags.known and flags.option(options) is None else _count(value)


def _count(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[1-9]\d{0,8}", text) else None


def _quant(flags: Flags) -> str:
    found = flags.field("quantization")
    return flags.field("dtype") if found.lower() in (UNKNOWN, "none") else found


def _strategy(flags: Flags, tp: str) -> str:
    """EP or TP. On one device there is nothing to be parallel with, which counts as TP of 1."""
    known = flags.field("ep").lower()
    if known != UNKNOWN:
        return "TP" if known in _NO else "EP"
    size = flags.option(_EP_SIZE)
    if size is not None or flags.option(_EP_ON) is not None:
        return "TP" if size in _NO and flags.option(_EP_ON) is None else "EP"
    return "TP" if flags.known and tp != UNKNOWN else UNKNOWN


def _spec(flags: Flags) -> str:
    """off, unknown, or the method of speculative decoding in capitals: MTP, EAGLE3, NGRAM; SPEC for one we cannot name."""
    if flags.option(_SPEC) is None:
        return "off" if flags.known else UNKNOWN
    named = _METHOD.search(" ".join(flags.words))
    found = named.group(0).upper() if named else "SPEC"
    return "MTP" if found in ("NEXTN", "MTP") else found
