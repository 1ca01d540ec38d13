"""Overlap of texts, by hand and against SQuAD's precision and recall."""

from __future__ import annotations

from collections import Counter

import pytest


@pytest.mark.parametrize(
    ("left", "right"), [("a pirate at sea", "The pirate, a Pirate!"), ("a a b", "a b b"), ("x", "y"), ("Yes.", "yes")]
)
def test_f1_is_the_harmonic_mean_of_precision_and_recall(left: str, right: str) -> None:
    from audit_lit.statistics.text_overlap import token_f1

    words = [Counter("".join(c for c in text.lower() if c.isalnum() or c == " ").split()) for text in (left, right)]
    shared = (words[0] & words[1]).total()
    precision, recall = shared / words[0].total(), shared / words[1].total()
    expected = 2 * precision * recall / (precision + recall) if shared else 0.0
    assert token_f1(left, right) == token_f1(right, left) == pytest.approx(expected)


def test_texts_without_words() -> None:
    from audit_lit.statistics.text_overlap import agreement, most_alike, token_f1

    assert token_f1("", "...") == 1.0 and token_f1("", "a") == 0.0
    assert agreement("a", []) == 1.0 and most_alike([]) == ""


def test_agreement_is_the_mean_overlap() -> None:
    from audit_lit.statistics.text_overlap import agreement

    assert agreement("a b", ["a b", "a c", "d"]) == pytest.approx((1 + 0.5 + 0) / 3)


def test_the_most_alike_text_shares_most_with_the_others() -> None:
    from audit_lit.statistics.text_overlap import most_alike

    assert most_alike(["z", "a b", "a b c", "a"]) == "a b"
    assert most_alike(["a", "b"]) == "a"  # the first of equals


def test_distinct_pairs_by_hand() -> None:
    from audit_lit.statistics.text_overlap import distinct

    assert distinct(2, ["a b a b", "a b", "c"]) == 2 / 4  # ab, ba, ab, ab
    assert distinct(1, ["a b a b", "c"]) == 3 / 5
    assert distinct(2, ["a", ""]) == distinct(2, []) == 0.0
