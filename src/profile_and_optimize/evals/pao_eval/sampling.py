"""Sampling pinned from the outside: what a request has to say so that no server's generation_config decides, and which of
it a server takes. Pure: the requests are made by whoever calls.

vLLM and SGLang take every parameter here and fall back to the model's generation_config for those left out. `transformers
serve` refuses requests with top_k, min_p or repetition_penalty and sets the last by frequency_penalty. Others ignore what
they do not know. So a server is asked: it takes a parameter if it answers with it and refuses an impossible value of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Value = float | int
# Neither SGLang nor vLLM restricts the choice of tokens at -1; 0 is refused by SGLang.
NEUTRAL: dict[str, Value] = {
    "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0,
}  # fmt: skip
PENALTIES = ("repetition_penalty", "presence_penalty", "frequency_penalty")
# At temperature 0 the most likely token is taken, whichever others might have been drawn.
OF_DRAWING = ("top_p", "top_k", "min_p", "seed")
IMPOSSIBLE = "not a number"
OK = 200


@dataclass(frozen=True, slots=True)
class Pins:
    """What is sent with every question, and what could not be pinned: `refused` by the server, or `ignored` by it."""

    sent: tuple[tuple[str, Value], ...]
    refused: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    def body(self) -> dict[str, Value]:
        return dict(self.sent)

    def to_json(self) -> dict[str, Any]:
        return {"sent": self.body(), "refused": list(self.refused), "ignored": list(self.ignored)}


def wanted(temperature: float, seed: int) -> dict[str, Value]:
    """Everything that a question is asked with."""
    return {"temperature": temperature, **NEUTRAL, "seed": seed}


def settle(status: Callable[[dict[str, Any]], int], pins: Mapping[str, Value]) -> Pins | None:
    """What this server takes of `pins`. `status` sends a small request with these parameters in it and gives the HTTP status.
    None for a server that answers not even a request without any."""
    sent = list(pins)
    if status(dict(pins)) != OK:
        if status({}) != OK:
            return None
        sent = [name for name, value in pins.items() if status({name: value}) == OK]
    ignored = [name for name in sent if status({name: IMPOSSIBLE}) == OK]
    refused = [name for name in pins if name not in sent]
    return Pins(tuple((name, pins[name]) for name in sent), tuple(refused), tuple(ignored))


def wrong_pins(told: Any, temperature: Any, seed: Any) -> list[str]:
    """What of a record of pins does not pin the sampling, or says nothing of a parameter, as lines."""
    every = wanted(temperature, seed)
    try:
        sent, refused, ignored = dict(told["sent"]), list(told["refused"]), list(told["ignored"])
        lines = [
            f"{name} is {sent[name]!r}, not {every.get(name)!r}"
            for name in sent
            if not _same(sent[name], every.get(name))
        ]
        if sorted([*sent, *refused]) != sorted(every) or not set(ignored) <= set(sent):
            lines.append("each parameter is sent or refused, and what is ignored was sent")
    except (KeyError, TypeError, ValueError) as e:
        return [f"not a record of what was sent: {type(e).__name__} {e}"]
    return lines


def _same(one: object, two: object) -> bool:
    """Numbers alone: True is none."""
    return type(one) in (int, float) and one == two


def undecided(pins: Pins, temperature: float) -> tuple[str, ...]:
    """The parameters that may still decide an answer although nobody could pin them."""
    idle = OF_DRAWING if temperature == 0 else ()
    return tuple(name for name in (*pins.refused, *pins.ignored) if name not in idle)
