"""Helpers that several test files share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def count_calls(model: Any) -> Iterator[list[int]]:
    """Collect the batch size of every forward pass of a TransformerLens model."""
    calls: list[int] = []
    original = model.forward

    def forward(tokens: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(len(tokens))
        return original(tokens, *args, **kwargs)

    model.forward = forward
    try:
        yield calls
    finally:
        del model.forward
