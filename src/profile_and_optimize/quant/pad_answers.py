"""Do a checkpoint and its padded copy answer the same? Both are loaded and run on a few fixed rows of tokens.

    python pad_answers.py JOB.json      {"base", "padded", "key", "rows", "tokens", "out"}

Runs alone in the `ptq` tool environment and imports nothing of the package. One model is in memory at a time, in float32, where a
longer sum of the same numbers and zeros differs by its order alone. Writes to `out` what was compared. Progress is lines
`PAO {json}` on stdout; a failure is the last line of stderr, `PAO-ERROR {json}`, with exit status 2, 3 or 1 (refused).
"""

from __future__ import annotations

import json
import sys
import traceback
from pathlib import Path
from typing import Any

EXIT = {"refused": 1, "wrong_use": 2, "broke": 3}
# Of the largest logit. 2^-24 is a rounding of float32; a sum over ten thousand products in another order, through a hundred
# layers, moved by less than 2^-15 of the whole in every model that was tried, and a wrong weight moves it by far more.
BOUND = 2.0**-14
# Rows of a model whose logits are all alike would agree whatever its weights are.
LEAST_SPREAD = 1e-3


class Stop(Exception):
    """An end that is said in one line."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next


def main(argv: list[str]) -> int:
    try:
        if len(argv) != 1:
            raise Stop("wrong_use", "one argument: JOB.json", where="pad_answers.py")
        run(json.loads(Path(argv[0]).read_text()))
        return 0
    except Stop as stop:
        told = {"code": stop.code, "message": stop.message, "where": stop.where, "next": stop.next}
    except MemoryError:
        told = {
            "code": "broke",
            "message": "memory ran out",
            "where": "",
            "next": "free memory, or use a larger machine",
        }
    except Exception as e:  # every end is one line that the caller can read; the traceback is in the log
        traceback.print_exc()
        told = {"code": "broke", "message": f"{type(e).__name__}: {e}"[:500], "where": "pad_answers.py", "next": ""}
    print("PAO-ERROR " + json.dumps(told), file=sys.stderr, flush=True)
    return EXIT[told["code"]]


def run(job: dict[str, Any]) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    rows = token_rows(job)
    answers, unread = [], []
    for i, side in enumerate(("base", "padded")):
        progress(i, f"loading {side}")
        logits, unexpected = answers_of(Path(job[side]), rows, job["key"], side)
        answers.append(logits)
        unread.append(unexpected)
    if unread[0] != unread[1]:
        raise Stop(
            "refused",
            f"the library reads other tensors of the padded copy: {sorted(unread[0] ^ unread[1])[0]}",
            where=job["padded"],
        )
    told = judged(*answers) | {
        "rows": len(rows), "tokens": sum(map(len, rows)), "dtype": "float32", "tensors_not_run": sorted(unread[0]),
        "torch": torch.__version__, "transformers": transformers.__version__,
    }  # fmt: skip
    Path(job["out"]).write_text(json.dumps(told, indent=2) + "\n")
    progress(2, f"the largest difference of a logit is {told['largest_difference']:.3g} of {told['largest_logit']:.3g}")


def judged(base: Any, padded: Any) -> dict[str, Any]:
    """Raises Stop (refused) where a logit is no number, where they differ by more than the order of sums, or show nothing."""
    for side, logits in (("base", base), ("padded copy", padded)):
        if not bool(logits.isfinite().all()):
            raise Stop(
                "refused",
                f"the {side} answers what is not a number",
                where=side,
                next="repair the base: its logits are not finite",
            )
    if base.shape != padded.shape:
        raise Stop("refused", f"logits of {list(base.shape)} became {list(padded.shape)}", where="padded copy")
    largest, difference = float(base.abs().max()), float((base - padded).abs().max())
    spread = float((base.amax(-1) - base.amin(-1)).max())
    if spread < LEAST_SPREAD:
        raise Stop(
            "refused",
            f"the base's logits are all alike (spread {spread:.3g}): equal answers would show nothing",
            where="base",
            next="give a trained model, or --unchecked",
        )
    # Written so that a comparison with what is not a number is a refusal too.
    if not difference <= BOUND * largest:
        raise Stop(
            "refused",
            f"a logit differs by {difference:.3g}, of {largest:.3g} at most: more than the order of sums can move it",
            where="padded copy",
            next="this layout of experts is not padded rightly: report it",
        )
    return {
        "largest_logit": largest,
        "largest_difference": difference,
        "bound": BOUND * largest,
        "bit_equal": difference == 0.0,
    }


def token_rows(job: dict[str, Any]) -> list[list[int]]:
    """The same tokens each time, spread over the vocabulary; none that stands for an image or a sound."""
    config = json.loads((Path(job["base"]) / "config.json").read_text())
    text = config.get("text_config") or config
    vocabulary = text.get("vocab_size") or config.get("vocab_size")
    if not isinstance(vocabulary, int) or vocabulary < 2:
        raise Stop(
            "wrong_use",
            f"config.json gives vocab_size {vocabulary!r}",
            where=job["base"],
            next="--unchecked writes the copy without comparing answers",
        )
    marks = {v for part in (config, text) for k, v in part.items() if k.endswith(("_token_id", "_token_index"))
             and isinstance(v, int)}  # fmt: skip
    ids = [
        n
        for n in ((7919 * i + 104729 * (i // 7)) % vocabulary for i in range(4 * job["rows"] * job["tokens"]))
        if n not in marks
    ]
    return [ids[i * job["tokens"] : (i + 1) * job["tokens"]] for i in range(job["rows"])]


def answers_of(folder: Path, rows: list[list[int]], key: str, side: str) -> tuple[Any, set[str]]:
    """Logits [rows, tokens, vocabulary], and the names of tensors in the file that the library did not take."""
    import torch

    model, told = model_class(folder).from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True, local_files_only=True,
        trust_remote_code=False,
    )  # fmt: skip
    wrong = [str(n[0] if isinstance(n, tuple | list) else n) for n in told.get("mismatched_keys") or ()]
    if wrong:
        raise Stop(
            "refused",
            f"{sorted(wrong)[0]} does not have the size that config.json implies: it depends on {key} too, or never fitted",
            where=side,
            next="this layout of experts is not known",
        )
    missing = sorted(told.get("missing_keys") or ())
    if missing:
        raise Stop(
            "refused",
            f"tensor {missing[0]} is missing ({len(missing)} in all)",
            where=side,
            next="fetch the model again",
        )
    model.eval()
    with torch.no_grad():
        logits = torch.cat([model(input_ids=torch.tensor([row]), use_cache=False).logits.float() for row in rows])
    return logits, set(told.get("unexpected_keys") or ())


def model_class(folder: Path) -> Any:
    """The class that config.json names: one for text alone would leave parts unread."""
    import transformers

    config = json.loads((folder / "config.json").read_text())
    names = config.get("architectures") or []
    found = getattr(transformers, str(names[0]), None) if names else None
    if names and found is None:
        raise Stop(
            "wrong_use",
            f"transformers {transformers.__version__} has no class {names[0]}",
            where=str(folder),
            next="--unchecked writes the copy without comparing answers",
        )
    return found or transformers.AutoModelForCausalLM


def progress(done: int, says: str) -> None:
    print("PAO " + json.dumps({"stage": "compare answers", "done": done, "of": 2, "says": says}), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
