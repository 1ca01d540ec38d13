"""JSON and YAML that two readers could take for different things are refused in a line of words."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit_lit.errors import AuditLitError, QuestionError
from audit_lit.files.documents import check_text, decode_json, decode_yaml

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
BOMB = "a: &a [x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a, *a]\n" + "".join(
    f"c{level}: &c{level} [{', '.join([f'*{previous}'] * 10)}]\n"
    for level, previous in enumerate(["b", *(f"c{level}" for level in range(6))])
)
MERGE_BOMB = "b0: &b0 {x: 1}\n" + "".join(
    f"b{level}: &b{level} {{<<: [{', '.join([f'*b{level - 1}'] * 30)}]}}\n" for level in range(1, 9)
)


@given(VALUES)
def test_json_comes_back_as_it_was_written(value: Any) -> None:
    assert decode_json(json.dumps(value)) == value
    assert decode_json(json.dumps(value, ensure_ascii=False)) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
        ('{"a": [1, {"b": NaN}]}', r"a\.1\.b nan is not finite"),
        ("[1e999]", "inf is not finite"),
        ("-Infinity", "-inf is not finite"),
        ("9" * 400 + ".0", "inf is not finite"),
        ("1" * 5000, "4300 digits"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ('"\\uD800"', "half of a surrogate pair"),
        ("{", "Expecting"),
    ],
)
def test_odd_json_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode_json(text)


def test_words_and_pairs_of_surrogates_are_no_fault() -> None:
    assert decode_json('["NaN", "Infinity", "1e999", "\\ud83d\\ude00", 1e99]') == [
        "NaN",
        "Infinity",
        "1e999",
        "😀",
        1e99,
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb:\n  c: 1\n  c: 2", "the key 'c' stands twice, line 3"),
        ("1: 2", "the key 1 is no text"),
        ("? [a]\n: 2", "is no text"),
        ("a: 2024-01-01", "of type timestamp"),
        ("2024-01-01: a", "of type timestamp"),
        ("a: !!set {b}", "of type set"),
        ("a: !!binary aGk=", "of type binary"),
        ("a: !!python/object:os.x {}", "could not determine a constructor"),
        ('a: !!bool "x"', "KeyError"),
        ('a: !!int ""', "IndexError"),
        ("a: &a [*a]", "holds itself"),
        ("[" * 100_000, "nested too deeply"),
        ("a: " + "1" * 5000, "4300 digits"),
        (BOMB, "more than 100,000 values"),
        (MERGE_BOMB, "more than 100,000 values"),
        ("a: &a {<<: *a}", "holds itself"),
        ("a: [1", "line"),
    ],
)
def test_odd_yaml_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        decode_yaml(text)
    assert "\n" not in str(caught.value)


def test_yaml_may_repeat_values_by_aliases() -> None:
    assert decode_yaml("a: &a {b: 1}\nc: *a\nd:\n  <<: *a\n  e: 2") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }


def test_text_that_is_no_unicode_is_refused() -> None:
    check_text("é😀", "the question")
    with pytest.raises(QuestionError, match="the question holds half of a surrogate pair"):
        check_text("caf\udce9", "the question", QuestionError)


def test_no_document_is_written_with_a_number_that_is_not_finite() -> None:
    from audit_lit.files.writing import dump_json

    assert dump_json({"a": [1.5, None]}) == '{"a": [1.5, null]}'
    with pytest.raises(AuditLitError, match="not finite"):
        dump_json({"a": [float("nan")]})
