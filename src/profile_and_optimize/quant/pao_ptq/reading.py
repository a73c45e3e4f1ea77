"""What one reading of an export says: held, or not and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .compare import Compared
from .job import Job
from .plain import Plain
from .recode import Neighbours
from .tensors import read_folder, to_bf16

# KL(in process || read back) as a share of KL(base || in process). The same weights and the same rounding leave only the
# order of additions in bf16, which now and then tips an activation over into its neighbour's four-bit code: on small
# models in one process that was under 2%, while a wrong scale or swapped nibbles give more than the whole.
SHARE = 0.05
# Below this two log-probabilities stored in float16 do not differ: their own rounding gives about 1e-7.
FLOOR = 1e-6
# Relative error of a dequantized weight against the base, above which it is another matrix and no rounding of this one.
# Rounding to four bits gives 0.1 to 0.15 and to eight 0.01 to 0.03; swapped nibbles 1.4, a scale twice too large 1.0. One
# weight at five times the usual error of the checkpoint is none of it either.
WORST = {4: 0.3, 8: 0.1}
# Two readings with jitter differ by less than a library's own expert module and a plain one do: measured 1.8 times, by gpt-oss in
# MXFP4, whose bytes are the base's rounded. What the bytes show has been checked before, value by value.
NOISE = 2.0
# ModelOpt takes FP8 and INT8 quotients in float32 while it runs and in bf16 when it writes: one code in thirty becomes its
# neighbour. The written codes are then held to that, and the answer to be about as good (measured: 0.7 to 1.5 times).
BY_ONE, WELL = 0.1, 2.0
NEAR = "codes are written from bf16 quotients: with those of float32 ones it is the model in process, and none is off by more than one"


@dataclass(frozen=True)
class Reading:
    """One reading of the export. `second`: the same with codes of float32 quotients, where the first was over the limit."""

    plain: Plain
    sums: Compared
    folded: bool
    noise: float | None = None
    second: float | None = None
    tally: Neighbours | None = None

    @property
    def limit(self) -> float:
        return max(SHARE * self.sums.base_in_process.mean, FLOOR, NOISE * (self.noise or 0.0))

    @property
    def far(self) -> list[str]:
        """Weights that are not the base's rounded. Scales that a method moved between weights make that untold."""
        usual = float(np.median(list(self.plain.errors.values()))) if self.plain.errors else 0.0
        bound = {bits: min(worst, 5 * usual) for bits, worst in WORST.items()}
        return [] if self.folded else [n for n, e in self.plain.errors.items() if not e <= bound[self.plain.bits[n]]]

    @property
    def near(self) -> bool:
        """Whether what is written differs from the model in process by neighbouring codes alone, and answers as well."""
        if self.second is None or self.tally is None:
            return False
        well = self.sums.base_back.mean <= WELL * self.sums.base_in_process.mean
        return self.second <= self.limit and self.tally.by_more == 0 and self.tally.share <= BY_ONE and well

    def reason(self) -> str:
        """Empty when it holds."""
        if not self.plain.errors:
            return "the export holds no quantized weight"
        if self.far:
            worst = self.far[0]
            return f"{len(self.far)} weights read back are not the base's: {worst} differs by {self.plain.errors[worst]:.2f} of its size"
        if self.sums.back.mean <= self.limit or self.near:
            return ""
        told = f"KL {self.sums.back.mean:.3g} between the model in process and read back, over {self.limit:.3g}"
        if self.second is not None and self.tally is not None:
            told += f"; {self.second:.3g} with codes rounded anew, {self.tally.share:.1%} of codes off by one, {self.tally.by_more} by more"
        return told


def verdict(r: Reading) -> dict[str, Any]:
    """roundtrip.json, but for the digest."""
    sums, errors = r.sums, r.plain.errors
    worst = max(errors, key=lambda n: errors[n] / WORST[r.plain.bits[n]], default=None)
    limit = f"{SHARE:.0%} of KL(base || in process), at least {FLOOR:g}" + (
        f", or {NOISE * r.noise:.2g}: {NOISE:g} times what half a bf16 step in each product does" if r.noise else ""
    )
    codes = (
        None
        if r.tally is None
        else {"off_by_one": r.tally.share, "off_by_more": r.tally.by_more, "kl_recoded": r.second}
    )
    return {
        "schema": 1, "passed": not r.reason(), "tokens": sums.back.rows,
        "kl_base": {"in_process": sums.base_in_process.mean, "reloaded": sums.base_back.mean},
        "kl_in_process_reloaded": sums.back.mean, "kl_limit": r.limit, "kl_noise": r.noise, "codes": codes,
        "top1_base": {"in_process": sums.base_in_process.top1, "reloaded": sums.base_back.top1},
        "top1_in_process_reloaded": sums.back.top1, "limit": limit,
        "weights": {"checked": 0 if r.folded else len(errors), "worst": None if worst is None else errors[worst], "worst_name": worst,
                    "note": "scales were moved into the weights, so they are not the base's" if r.folded else ""},
        "path": "own dequantization into plain bf16, inputs rounded by hooks", "reason": r.reason(),
        "note": NEAR if r.near and sums.back.mean > r.limit else "",
    }  # fmt: skip


def is_folded(job: Job) -> bool:
    """Whether a method moved scales between weights (AWQ, SmoothQuant): then norms differ from the base's, or are beside."""
    base, export = read_folder(job.base), read_folder(job.export)
    if any(n.endswith("pre_quant_scale") for n in export):
        return True
    norms = [n for n in base if "norm" in n and n in export and len(base[n].shape) == 1]
    return any(
        not np.array_equal(to_bf16(base[n].values().astype(np.float32)), to_bf16(export[n].values().astype(np.float32)))
        for n in norms
    )
