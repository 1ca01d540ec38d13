"""Fingerprints: the same model in any precision, and another one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from audit_lit.hooks import difference, fingerprint, same_model
from audit_lit.hooks.identity import KNOWN

OLD = "0123456789abcdef"


def print_of(rows: Tensor) -> str:
    model: Any = SimpleNamespace(embed=SimpleNamespace(W_E=rows))
    return fingerprint(model)


def rows_of(seed: int, d_model: int = 64) -> Tensor:
    """Token embeddings with a common part, as trained ones have."""
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(80, d_model, generator=generator) + 0.05 * torch.randn(d_model, generator=generator)


def quantised(rows: Tensor, bits: int) -> Tensor:
    scale = rows.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    return (rows / scale).round() * scale


COPIES = {
    "float32": lambda rows: rows,
    "bfloat16": lambda rows: rows.bfloat16(),
    "float16": lambda rows: rows.half(),
    "float16, then bfloat16": lambda rows: rows.half().bfloat16(),
    "8 bits": lambda rows: quantised(rows, 8).half(),
    "4 bits": lambda rows: quantised(rows, 4).half(),
}


@pytest.mark.parametrize("copy", COPIES)
@given(seed=st.integers(0, 10_000))
def test_a_copy_is_the_same_model_and_another_is_not(copy: str, seed: int) -> None:
    rows = rows_of(seed)
    stored, got = print_of(rows), print_of(COPIES[copy](rows))
    assert same_model(stored, got) and same_model(got, stored)
    assert not same_model(stored, print_of(COPIES[copy](rows_of(seed + 1))))


def test_float32_and_bfloat16_have_one_hash_that_first_versions_stored() -> None:
    first, second = print_of(rows_of(1)), print_of(rows_of(1).bfloat16())
    assert first == second and same_model(first.partition("-")[0], second)
    assert not same_model(OLD, first)


def test_the_default_targets_hash_is_known_with_its_sketch() -> None:
    ((digest, sketch),) = KNOWN.items()
    assert same_model(digest, f"{OLD}-{sketch}")
    assert not same_model(digest, f"{OLD}-{'0' * len(sketch)}")


@pytest.mark.parametrize("stored", ["", "another", f"{OLD}-not hexadecimal", f"{OLD}-{'zz' * 32}", f"{OLD}-ff"])
def test_a_malformed_fingerprint_is_of_no_model(stored: str) -> None:
    assert not same_model(stored, print_of(rows_of(1)))
    assert "cannot tell" in difference(stored, print_of(rows_of(1)))


def test_the_difference_is_said_in_words() -> None:
    assert difference(print_of(rows_of(1)), print_of(rows_of(2))).startswith("other token embeddings: ")
