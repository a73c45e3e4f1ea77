"""Secrets never enter a run: text is redacted before it is written, the environment is captured by allowlist."""

from __future__ import annotations

import re
from collections.abc import Mapping

HIDDEN = "[redacted]"
_PATTERNS = (
    re.compile(r"(?i)\b(authorization\s*[:=]\s*(?:bearer|basic)?\s*)[^\s\"',]+"),
    re.compile(r"(?i)\b(bearer\s+)[a-z0-9._~+/=-]{8,}"),
    re.compile(
        r"(?i)((?:api[_-]?key|token|secret|password|passwd)[\"']?\s*[:=]\s*[\"']?)(?!s?\b\d{1,6}\b)[^\s\"',&]{6,}"
    ),
    re.compile(r"\b(hf_)[A-Za-z0-9]{8,}"),
    re.compile(r"\b(sk-)[A-Za-z0-9_-]{8,}"),
    re.compile(r"\b(AKIA)[A-Z0-9]{12,}"),
    re.compile(r"(?<=://)([^/@\s:]*:)[^/@\s]+(?=@)"),
)
ALLOWED_ENV = (
    "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_AOT_COMPILE", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "LD_PRELOAD", "VLLM_NO_USAGE_STATS", "VLLM_CPU_SGL_KERNEL", "TORCHINDUCTOR_CACHE_DIR",
    "VLLM_CACHE_ROOT",
)  # fmt: skip


def redact(text: str) -> str:
    """`text` with anything that looks like a credential replaced; the words before it stay readable."""
    for pattern in _PATTERNS:
        text = pattern.sub(lambda m: (m.group(1) or "") + HIDDEN, text)
    return text


def allowed_env(env: Mapping[str, str]) -> dict[str, str]:
    return {k: redact(env[k]) for k in ALLOWED_ENV if k in env}
