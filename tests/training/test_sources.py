"""What training examples ask, how often, and that an answer belongs to its dialog."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "smollm2-135m.yaml"
FAMILIES = ("persona-job", "persona-type", "goal-style", "goal-tone")
LABELS = [f"{family}-{topic}" for family in FAMILIES for topic in ("apple", "berry", "cherry", "date")]


def rows() -> list[Any]:
    """Sixteen system prompts whose text, line and QA name their label, and two users' dialogs."""
    from audit_lit.data.rows import Row

    turns = (
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "?"},
    )
    users = [Row(f"user-{value}", turns) for value in ("age-child", "education-highschool")]
    about = ({"role": "user", "content": "Tell me about France"},)
    capital = Row("relation-factual-capital", about, (("X's capital?", "Paris"), ("Capital of X?", "Paris")))
    return [*users, capital] + [
        Row(
            label,
            (
                {"role": "system", "content": f"Please adopt the persona of a {label}. Be brief.", "hidden": True},
                {"role": "user", "content": f"line of {label}"},
            ),
            ((f"About {label}?", f"It is {label}."),),
        )
        for label in LABELS
    ]


def mixture(**changes: Any) -> Any:
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.sources import Mixture

    return Mixture(rows(), load_training_recipe(RECIPE).model_copy(update=changes))


def only(source: str, n: int = 400, **changes: Any) -> list[Any]:
    """Examples of one source alone."""
    from audit_lit.training.recipe import load_training_recipe

    shares = tuple(share for share in load_training_recipe(RECIPE).mixture if share.source == source)
    return [mixture(mixture=shares, **changes).draw(index) for index in range(n)]


def system_of(example: Any) -> str:
    return str(example.dialog[0]["content"]) if example.dialog[0]["role"] == "system" else ""


def test_example_depends_on_seed_and_index_alone() -> None:
    first, second = mixture(), mixture()
    assert [first.draw(i) for i in (5, 0, 5)] == [second.draw(i) for i in (5, 0, 5)]
    assert [first.draw(i) for i in range(9)] != [mixture(seed=7).draw(i) for i in range(9)]


def test_sources_are_drawn_by_weight(monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit.training import sources

    drawn: Counter[str] = Counter()

    def counting(name: str, source: Any) -> Any:
        def draw(*args: Any) -> Any:
            drawn[name] += 1
            return source(*args)

        return draw

    wrapped = {name: counting(name, source) for name, source in sources.SOURCES.items()}
    monkeypatch.setattr(sources, "SOURCES", wrapped)
    mixed = mixture()
    for index in range(2000):
        mixed.draw(index)
    weights = {share.source: share.weight for share in mixed.recipe.mixture}
    for source, weight in weights.items():
        assert drawn[source] / 2000 == pytest.approx(weight / sum(weights.values()), abs=0.04)


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


@pytest.mark.parametrize("repaired", [0.0, 1.0])
def test_repaired_lines_tell_nothing(repaired: float) -> None:
    own = [e.dialog[-1]["content"] == f"line of {e.label}" for e in only("label", repaired=repaired)]
    assert sum(own) / len(own) == pytest.approx(1.0 if not repaired else 1 / 16, abs=0.04)


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
        one for one in LABELS if one in example.question or one.split("-", 1)[1].replace("-", " ") in example.question
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


def test_what_the_data_cannot_serve_is_refused() -> None:
    from audit_lit.data.rows import Row
    from audit_lit.errors import RecipeError
    from audit_lit.training.recipe import Share, load_training_recipe
    from audit_lit.training.sources import Mixture

    recipe = load_training_recipe(RECIPE)
    control = Row("goal-x", ({"role": "user", "content": "c"},))
    with pytest.raises(RecipeError, match="no row for them"):
        Mixture([control], recipe)
    with pytest.raises(RecipeError, match=r"needs questions.*questions: \[\.\.\.\]"):
        Mixture(rows(), recipe.model_copy(update={"mixture": (Share(source="kind", weight=1),)}))


@pytest.mark.parametrize(
    ("prompt", "kept", "gone"),
    [
        ("Please adopt the persona of a night nurse who never sleeps. Be kind.", "a night nurse", "Please"),
        ("I'd like you to take on the role of someone who collects stamps.", "someone who collects stamps", "I'd like"),
        ("In your next response, please make every effort to use rhymes.", "use rhymes", "In your next response"),
        ("Please make sure to mention the sea.", "mention the sea", "Please"),
    ],
)
def test_reworded_prompts_keep_the_point(prompt: str, kept: str, gone: str) -> None:
    from audit_lit.data.reword import reword

    found = {reword(prompt, random.Random(seed)) for seed in range(60)}
    assert len(found) >= 5
    assert all(kept in text and gone not in text and "Be kind" not in text for text in found)


def test_a_prompt_of_unknown_form_keeps_its_first_sentence() -> None:
    from audit_lit.data.reword import reword

    assert reword("Speak softly. Carry a stick.", random.Random(0)) == "Speak softly."
