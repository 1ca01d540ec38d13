"""What is said of a library's error."""

from __future__ import annotations

import pytest

from audit_lit.errors import first_line


@pytest.mark.parametrize(
    ("err", "expected"),
    [
        (ValueError("It is broken.\nCall stack:"), "It is broken"),
        (RuntimeError("\n cut short: \n"), "cut short"),
        (NotImplementedError(), "NotImplementedError()"),
        ("3 weights are missing", "3 weights are missing"),
    ],
)
def test_the_first_line_of_an_error_or_its_name(err: object, expected: str) -> None:
    assert first_line(err) == expected
