"""Every random draw of a training is a function of (seed, purpose, number): a resume needs no generator states."""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, purpose: str, number: int) -> torch.Generator:
    """A CPU generator of its own for this draw; the same arguments give the same draws on every machine."""
    digest = hashlib.blake2b(f"{seed}/{purpose}/{number}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
