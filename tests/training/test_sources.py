"""Training examples: how often each source is drawn, what it asks, and that an answer belongs to its dialog."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from helpers.mixtures import LABELS, mixture, only, rows, system_of
from helpers.support import RECIPE


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


def test_example_depends_on_seed_and_index_alone() -> None:
    first, second = mixture(), mixture()
    assert [first.draw(i) for i in (5, 0, 5)] == [second.draw(i) for i in (5, 0, 5)]
    assert [first.draw(i) for i in range(9)] != [mixture(seed=7).draw(i) for i in range(9)]


def test_sources_are_drawn_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.training import sources as module

    drawn: Counter[str] = Counter()

    def counting(name: str, source: Any) -> Any:
        def draw(*args: Any) -> Any:
            drawn[name] += 1
            return source(*args)

        return draw

    wrapped = {name: counting(name, source) for name, source in module.SOURCES.items()}
    monkeypatch.setattr(module, "SOURCES", wrapped)
    mixed = mixture()
    for index in range(2000):
        mixed.draw(index)
    weights = {share.source: share.weight for share in mixed.recipe.mixture}
    for source, weight in weights.items():
        assert drawn[source] / 2000 == pytest.approx(weight / sum(weights.values()), abs=0.04)


def test_what_the_data_cannot_serve_is_refused() -> None:
    from audit_lit.data.rows import Row
    from audit_lit.errors import DataError, RecipeError
    from audit_lit.training.recipe import Share, load_training_recipe
    from audit_lit.training.sources import Mixture

    recipe = load_training_recipe(RECIPE)
    control = Row("goal-x", ({"role": "user", "content": "c"},))
    with pytest.raises(DataError, match="no row for them"):
        Mixture([control], recipe)
    with pytest.raises(RecipeError, match=r"needs questions.*questions: \[\.\.\.\]"):
        Mixture(rows(), recipe.model_copy(update={"mixture": (Share(source="kind", weight=1),)}))


@pytest.mark.parametrize("repaired", [0.0, 1.0])
def test_repaired_lines_tell_nothing(repaired: float) -> None:
    kept = [e.dialog[-1]["content"] == f"line of {e.label}" for e in only("label", repaired=repaired)]
    assert sum(kept) / len(kept) == pytest.approx(1.0 if not repaired else 1 / 16, abs=0.04)


def pool_of(**changes: Any) -> Any:
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.sources import Pool

    return Pool(rows(), load_training_recipe(RECIPE, changes))


def test_rows_are_sorted_by_what_they_serve() -> None:
    pool = pool_of()
    assert (len(pool.system), len(pool.qa), len(pool.users), len(pool.relations)) == (16, 16, 2, 1)
    assert pool.replied == pool.users and len(pool.lines) == 18


@pytest.mark.parametrize(("reworded", "same"), [(0.0, 50), (1.0, 0)])
def test_prompts_are_put_in_other_words(reworded: float, same: int) -> None:
    pool = pool_of(reworded=reworded, repaired=0.0)
    dialogs = [pool.dialog(pool.system[0], random.Random(seed)) for seed in range(50)]
    assert sum(dialog[0] == pool.system[0].messages[0] for dialog in dialogs) == same
    assert all(dialog[1:] == pool.system[0].messages[1:] and dialog[0]["hidden"] for dialog in dialogs)
