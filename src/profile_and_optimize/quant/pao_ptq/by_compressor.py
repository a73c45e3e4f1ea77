"""Quantizing and exporting with llm-compressor."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

from .backend import SHARD
from .calibration import Calibration
from .excludes import clean_excludes
from .loading import Loaded
from .names import excluded
from .recorded import QuantizerFact
from .seen import range_of, refuse_unknown
from .stop import Stop
from .structure import experts_in, wrong_names
from .work import Work


def compressor_refuse(work: Work, bare: Any) -> None:
    """Raises Stop for experts that llm-compressor cannot take apart."""
    from llmcompressor.modeling.moe.linearize import get_non_linearized_moes

    known = {name for name, _ in get_non_linearized_moes(bare)}
    fused = [e.name for e in experts_in(bare) if e.layout == "fused" and not excluded(e.name, work.patterns)]
    refuse_unknown([name for name in fused if name not in known])
    with contextlib.suppress(NotImplementedError):  # as far as it gets without weights to copy
        taken_apart(bare)


def linearize(work: Work, loaded: Loaded) -> None:
    """The library's offloading replaces accelerate's, which its own modules do not know."""
    from compressed_tensors.offload import from_accelerate

    if loaded.layered:
        from_accelerate(loaded.model)
    taken_apart(loaded.model)


def taken_apart(model: Any) -> None:
    """llm-compressor quantizes matrices: stacked experts become one linear each."""
    from llmcompressor.modeling.moe.linearize import get_non_linearized_moes, linearize_moe

    plain = [module for _, module in get_non_linearized_moes(model) if not getattr(module, "has_bias", False)]
    try:
        with without_biases([getattr(module, "config", model.config) for module in plain]):
            linearize_moe(model)
    except (AttributeError, ValueError) as error:
        told = f"llm-compressor cannot take the experts of {model.config.model_type} apart: {error}"
        raise Stop("wrong_use", told, where="backend", next="--backend modelopt") from error


@contextlib.contextmanager
def without_biases(configs: list[Any]) -> Iterator[None]:
    """What a configuration says of biases elsewhere (ernie4_5_moe) is taken for the experts too: theirs would have no content."""
    said = [(c, key) for c in configs for key in ("use_bias", "mlp_bias") if getattr(c, key, False) is True]
    for config, key in said:
        setattr(config, key, False)
    try:
        yield
    finally:
        for config, key in said:
            setattr(config, key, True)


def compressor_ignore(model: Any, patterns: list[str]) -> list[str]:
    """The modules to leave out, by name: its own lists know no shell patterns."""
    import torch

    linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    return [name for name in linears if excluded(name, patterns)]


def compressor_modifiers(work: Work, model: Any) -> list[Any]:
    from llmcompressor.modifiers.gptq import GPTQModifier
    from llmcompressor.modifiers.quantization import QuantizationModifier
    from llmcompressor.modifiers.transform.awq import AWQModifier

    method, ignore = work.recipe.method, compressor_ignore(model, work.patterns)
    last = GPTQModifier if method == "gptq" else QuantizationModifier
    smooth = [AWQModifier()] if method == "awq" else []
    return [*smooth, last(targets=["Linear"], scheme=work.recipe.settings, ignore=ignore)]


def observers_in(model: Any) -> dict[str, Any]:
    from llmcompressor.observers import Observer

    found = {name: module for name, module in model.named_modules() if isinstance(module, Observer)}
    return {name: observer for name, observer in found.items() if not observer.is_weight_obs}


def compressor_ranges(model: Any) -> tuple[Callable[[], dict[str, Any]], Callable[[dict[str, Any]], None]]:
    """Reads and puts back what the observers of activations hold. It is all they need: a running mean is its own state."""
    observers = observers_in(model)

    def read() -> dict[str, Any]:
        seen = {n: o for n, o in observers.items() if o.has_statistics}
        return {f"{n}.{attr}": getattr(o, attr) for n, o in seen.items() for attr in o._stats_attrs}

    def put_back(kept: dict[str, Any]) -> None:
        for name, value in kept.items():
            observer, _, attr = name.rpartition(".")
            setattr(observers[observer], attr, value)

    return read, put_back


def compressor_quantize(work: Work, loaded: Loaded, calibration: Calibration) -> dict[str, bool]:
    """Quantizes in place. Returns, by observed input, whether it saw a token."""
    from llmcompressor.core import active_session
    from llmcompressor.modeling.moe.context import moe_calibration_context

    model, saw = loaded.model, {}  # type: tuple[Any, dict[str, bool]]
    refuse_unknown([e.name for e in experts_in(model) if e.layout == "fused" and not excluded(e.name, work.patterns)])
    session = active_session()
    session.reset()
    with moe_calibration_context():
        if (
            work.recipe.data == "search"
        ):  # each layer sees the text several times: tokens per expert would be no count of it
            compressor_search(work, loaded, calibration)
        else:
            calibration.tokens.watch(model)
            session.initialize(model=model, start=-1, recipe=compressor_modifiers(work, model), calib_data=None)
            saw = compressor_observe(work, model, calibration)
            session.finalize()
    calibration.tokens.stop()
    return saw


def compressor_observe(work: Work, model: Any, calibration: Calibration) -> dict[str, bool]:
    """The library's own basic pipeline with our loop in its middle, which can be killed and goes on."""
    from llmcompressor.core import LifecycleCallbacks
    from llmcompressor.utils import calibration_forward_context
    from llmcompressor.utils.helpers import DisableQuantization

    saw: dict[str, bool] = {}
    LifecycleCallbacks.calibration_start()
    if work.recipe.data == "ranges":
        calibration.ranges, calibration.restore = compressor_ranges(model)
        with calibration_forward_context(model), DisableQuantization(model):
            calibration(model)
        saw = {name: observer.has_statistics for name, observer in observers_in(model).items()}
    LifecycleCallbacks.sequential_epoch_end(list(model.modules()))
    LifecycleCallbacks.calibration_end()
    return saw


def compressor_search(work: Work, loaded: Loaded, calibration: Calibration) -> None:
    """GPTQ and AWQ run layer by layer in the library's own pipeline, which keeps nothing for a second start."""
    import torch
    from llmcompressor.core import active_session
    from llmcompressor.modeling.offset_norm import norm_calibration_context
    from llmcompressor.pipelines import CalibrationPipeline
    from torch.utils.data import DataLoader

    if loaded.device == "cpu":  # there is no memory to pin for a device that is not there
        torch.Tensor.pin_memory = lambda self, *rest, **named: self
    work.note(f"{work.recipe.method} searches layer by layer; killed, it starts again")
    rows = [{"input_ids": torch.tensor(batch)} for batch in calibration.batches]
    data = DataLoader(rows, batch_size=None)
    session, modifiers = active_session(), compressor_modifiers(work, loaded.model)
    # Smoothing scales norms, and wants those that store 1 + w as plain ones. It costs them a rounding: not done without need.
    with norm_calibration_context(loaded.model) if work.recipe.method == "awq" else contextlib.nullcontext():
        session.initialize(model=loaded.model, start=-1, recipe=modifiers, calib_data=data)
        CalibrationPipeline.from_modifiers(modifiers, user="sequential")(loaded.model, data, compressor_arguments())
    session.finalize()


def compressor_arguments() -> Any:
    from llmcompressor.args.dataset_arguments import DatasetArguments

    return DatasetArguments(pipeline="sequential")


def compressor_quantizer_facts(model: Any, saw: dict[str, bool]) -> list[QuantizerFact]:
    """Quantizers as ModelOpt would name them. A weight's amax is that of its stored scales; unknown where there is none."""
    out: list[QuantizerFact] = []
    for name, module in model.named_modules():
        scheme = getattr(module, "quantization_scheme", None)
        if scheme is None or getattr(module, "weight", None) is None:
            continue
        kept = asdict(range_of(getattr(module, "weight_scale", None)))
        on = scheme.weights is not None
        out.append(QuantizerFact(f"{name}.weight_quantizer", "weight", on, False, **kept, saw_tokens=None))
        if scheme.input_activations is not None:
            out.append(compressor_input_fact(name, module, scheme.input_activations, saw))
    return out


def compressor_input_fact(name: str, module: Any, arguments: Any, saw: dict[str, bool]) -> QuantizerFact:
    """Per token: dynamic, and nothing was calibrated. Otherwise the largest value that its stored scale reaches."""
    dynamic = arguments.dynamic is True
    scale, whole = getattr(module, "input_scale", None), getattr(module, "input_global_scale", None)
    top = 448.0 if arguments.num_bits == 8 and str(arguments.type).endswith("float") else 127.0
    amax = (
        None
        if dynamic
        else (6.0 * 448.0 / whole.float() if whole is not None else scale.float() * top if scale is not None else None)
    )
    seen = saw.get(f"{name}.input_observer", False) if saw else None
    kept = asdict(range_of(amax))
    return QuantizerFact(
        f"{name}.input_quantizer", "input", True, dynamic, **kept, saw_tokens=None if dynamic else seen
    )


def compressor_weight_quantizers(model: Any, experts: str) -> int:
    inside = [m for n, m in model.named_modules() if n.startswith(experts + ".")]
    return sum(getattr(getattr(m, "quantization_scheme", None), "weights", None) is not None for m in inside)


@contextlib.contextmanager
def compressor_onloaded(loaded: Loaded) -> Iterator[None]:
    """With layers on disk, compressed-tensors 0.18 reads a weight again after it has put the rounded one in its place: the
    model would answer with plain weights. Each matrix is held in memory while it is used."""
    from compressed_tensors.offload import disable_offloading

    held: list[Any] = []

    def enter(module: Any, args: Any) -> None:
        held.append(disable_offloading())
        held[-1].__enter__()

    def leave(module: Any, args: Any, output: Any) -> None:
        held.pop().__exit__(None, None, None)

    mine = [m for m in loaded.model.modules() if loaded.layered and getattr(m, "quantization_scheme", None) is not None]
    hooks = [h for m in mine for h in (m.register_forward_pre_hook(enter), m.register_forward_hook(leave))]
    yield
    for hook in hooks:
        hook.remove()


def compressor_export(work: Work, loaded: Loaded) -> None:
    from llmcompressor.transformers.compression.compressed_tensors_utils import modify_save_pretrained

    modify_save_pretrained(loaded.model)
    # transformers 5.14 cannot write several files of a model that lies on disk: its index of them fails. One file, then,
    # and the quantized weights are in memory while it is written.
    shard = "100TB" if loaded.layered else SHARD
    loaded.model.save_pretrained(str(work.export), save_compressed=True, max_shard_size=shard)
    clean_excludes(work.export, wrong_names(loaded.model))
