"""A stand-in for SGLang's compiled kernels on a CPU: the one function without which it does not start, in plain torch.

There is no build of these kernels for CPUs on PyPI. SGLang asks for their operators one by one and takes plain torch
where they are missing, so what is measured here says nothing of SGLang with its own kernels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch


def __getattr__(name: str) -> Callable[..., None]:
    """SGLang imports many kernels for CPUs that plain serving never calls; one that is called says which it was."""
    if not name.endswith("_cpu"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def lacking(*args: object, **kwargs: object) -> None:
        raise NotImplementedError(f"sgl_kernel.{name} has no build for CPUs, and this stand-in does without it")

    return lacking


def assign_req_to_token_pool_cpu(
    req_pool_indices: torch.Tensor,
    req_to_token: torch.Tensor,
    start_offset: torch.Tensor,
    end_offset: torch.Tensor,
    out_cache_loc: torch.Tensor,
    pool_len: int,
) -> None:
    """Write each request's new cache places into its row of the pool, in place.

    `req_to_token` is [requests, pool_len]; request i of the batch owns row req_pool_indices[i] and gets columns
    start_offset[i] to end_offset[i], from `out_cache_loc`, which holds the places of all requests one after another.
    """
    lengths = (end_offset - start_offset).long()
    total = int(lengths.sum())
    rows = torch.repeat_interleave(req_pool_indices.long(), lengths)
    before = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
    columns = torch.repeat_interleave(start_offset.long(), lengths) + torch.arange(total) - before
    req_to_token[rows, columns] = out_cache_loc[:total].to(req_to_token.dtype)
