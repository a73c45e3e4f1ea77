"""The steps in which the two libraries differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .calibration import Calibration
from .loading import Loaded
from .recorded import QuantizerFact
from .work import Work

SHARD = "1GB"  # held in memory while it fills, and once more while it is written


@dataclass(frozen=True)
class Backend:
    """The steps in which the two libraries differ."""

    refuse: Callable[
        [Work, Any], None
    ]  # on the model's modules without their weights: Stop for what the backend cannot take
    prepare: Callable[[Work, Loaded], None]
    quantize: Callable[[Work, Loaded, Calibration], dict[str, bool]]
    join: Callable[[Any], None]
    answering: Callable[[Loaded], Any]
    quantizers: Callable[[Any, dict[str, bool]], list[QuantizerFact]]
    weight_quantizers: Callable[[Any, str], int]
    export: Callable[[Work, Loaded], None]
