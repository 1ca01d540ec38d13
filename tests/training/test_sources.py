"""What training examples ask, and that an answer belongs to its dialog."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from helpers.mixtures import LABELS, only, system_of


@pytest.mark.parametrize("source", ["label", "instruction", "system", "qa", "kind"])
def test_answers_belong_to_the_hidden_prompt(source: str) -> None:
    for example in only(source, 60, reworded=0.5):
        assert example.label in system_of(example)
        expected = {
            "label": example.label.replace("-", ": ", 1).replace("-", " "),
            "instruction": f"Please adopt the persona of a {example.label}.",
            "system": f"Please adopt the persona of a {example.label}. Be brief.",
            "qa": f"It is {example.label}.",
            "kind": f"A {example.label.split('-')[0]}.",
        }
        assert example.answer == expected[source] and example.null is None


def test_claims_are_balanced_and_wrong_ones_are_of_other_dialogs() -> None:
    examples = only("yes_no", 1500)
    answers = Counter(example.answer for example in examples)
    assert set(answers) == {"Yes.", "No."} and answers["Yes."] / 1500 == pytest.approx(0.5, abs=0.05)

    wrong = [example for example in examples if example.answer == "No."]
    assert all(claimed(example) == example.label for example in examples if example.answer == "Yes.")
    assert all(claimed(example) != example.label for example in wrong)
    assert all("persona of" not in system_of(example) for example in wrong if example.label == "none")
    hidden = [example for example in wrong if example.label != "none"]
    near = [claimed(example).rpartition("-")[0] == example.label.rpartition("-")[0] for example in hidden]
    assert 0.45 < sum(near) / len(near) < 0.75  # half are of the same family, and some by chance


def claimed(example: Any) -> str:
    """The label that a yes-or-no question names, by its text or its words."""
    (label,) = [
        name
        for name in LABELS
        if name in example.question or name.split("-", 1)[1].replace("-", " ") in example.question
    ]
    return label


def test_neutral_and_null_are_answered_by_abstention() -> None:
    from audit_lit.chat.vocabulary import NO_INSTRUCTION, SAYS_NOTHING

    neutral = only("neutral")
    assert {example.answer for example in neutral} == {NO_INSTRUCTION}
    lengths = {len(system_of(example).split(". ")) if system_of(example) else 0 for example in neutral}
    assert lengths >= {0, 1, 2, 3}
    null = only("null", 40)
    assert {example.answer for example in null} == {SAYS_NOTHING}
    assert len({example.null for example in null}) == 40
    assert {example.null[0] for example in null} == {"random", "mean"}  # permuted is kept for measuring


def test_users_are_asked_about_in_the_words_of_their_attribute() -> None:
    found = {(example.label, example.answer, "level of education" in example.question) for example in only("user", 60)}
    assert found == {("user-age-child", "Child.", False), ("user-education-highschool", "High school.", True)}
    assert any(len(example.dialog) == 3 for example in only("neutral")) and all(
        example.answer == "There is no hidden instruction." for example in only("neutral") if len(example.dialog) == 3
    )


def test_relations_are_read_at_their_last_token_and_are_no_qa() -> None:
    examples = only("relation", 30)
    assert {(e.question, e.answer, e.last_of_text) for e in examples} == {
        (question, "Paris", True) for question in ("X's capital?", "Capital of X?")
    }
    assert not any("relation" in example.label for example in only("qa", 60))


def test_texts_are_read_back_and_foretold() -> None:
    from audit_lit.training.sources import N_WORDS, _opening

    back = only("previous_text", 60, repaired=0.0)
    assert all(example.dialog[-1]["content"] == example.answer for example in back)
    assert all("persona of" not in example.answer for example in back)
    following = only("next_text", 20)
    assert {(len(example.dialog), example.answer) for example in following} == {(1, "ho")}  # up to the reply
    assert _opening("word " * 50).split() == ["word"] * N_WORDS
