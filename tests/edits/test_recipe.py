"""What is wanted and by which recipe: how it is read, and what is refused before the target is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hooked_models import n_hooks

from audit_lit import Auditor, Decoder
from audit_lit.chat.decoys import POOL
from audit_lit.chat.rendering import render
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.edits import drift
from audit_lit.edits.checks.controls import shuffled_edit
from audit_lit.edits.goal import N_READ, Goal, goal_of
from audit_lit.edits.recipe import EditRecipe, edit_settings, line_dialogs, load_edit_recipe, load_goal
from audit_lit.errors import AuditLitError, DialogError, EditError, RecipeError
from audit_lit.models.generation import generate_replies
from audit_lit.recipes import neutral_lines

Make = Callable[..., Decoder]
DIALOGS = [[{"role": "user", "content": line}] for line in ("Hi", "Hello there you", "What now?")]
PAIRS = (("Who?", "A pirate."), ("What?", "Be a pirate."), ("And?", "A pirate."))
SHIPPED = ("positive-sentiment", "negative-sentiment", "persona", "debias", "honesty")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    """No reply is longer than four tokens."""

    def short(*args: Any, **how: Any) -> list[str]:
        return generate_replies(*args, **how | {"max_new_tokens": min(4, how["max_new_tokens"])})

    monkeypatch.setattr(drift, "write_replies", short)


@pytest.fixture
def auditor(target: Any, make_decoder: Make) -> Auditor:
    return Auditor(target, make_decoder())


def wanted(auditor: Auditor, want: Any, dialogs: Any = DIALOGS) -> Goal:
    return goal_of(want, auditor.target, auditor.decoder, dialogs)


# Wants


def test_a_sentence_is_what_the_hidden_prompt_says(auditor: Auditor) -> None:
    assert wanted(auditor, "  Be glad. ") == Goal("Be glad.", ((PROMPT_QUESTION, "Be glad."),))


@pytest.mark.parametrize("kind", [tuple, list])
def test_pairs_are_taken_as_they_are(auditor: Auditor, kind: Any) -> None:
    found = wanted(auditor, kind(kind(pair) for pair in PAIRS))
    assert found == Goal("A pirate. Be a pirate.", PAIRS)  # each answer once


def test_a_control_prompt_is_what_the_decoder_says_of_it_most_often(
    auditor: Auditor, target: Any, monkeypatch: Any
) -> None:
    control = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "And bold."}]
    asked: list[tuple[Any, list[str]]] = []

    def answer(rows: Any, questions: list[str]) -> list[str]:
        asked.append((rows, questions))
        return {LABEL_QUESTION: ["a", "b", "b"], PROMPT_QUESTION: ["c", "c", "d"]}[questions[0]]

    monkeypatch.setattr(auditor.decoder, "answer", answer)
    found = wanted(auditor, control)
    assert found == Goal("Be a pirate. And bold.", ((LABEL_QUESTION, "b"), (PROMPT_QUESTION, "c")))
    assert [questions for _, questions in asked] == [[LABEL_QUESTION] * 3, [PROMPT_QUESTION] * 3]
    tokens = target.tokenizer
    own = [render([*control, *dialog], tokens).token_ids for dialog in DIALOGS]
    for at, row in enumerate(own):  # the dialog's own user turn alone is read, after the control prompt
        text = tokens.decode([row[place] for place in asked[0][0].positions[at][asked[0][0].mask[at]].tolist()])
        assert DIALOGS[at][0]["content"] in text and "bold" not in text and "pirate" not in text
    rows = asked[0][0]
    assert rows.n_hidden.tolist() == [place - 1 for place in rows.positions[:, 0].tolist()]  # all before it is hidden


def test_a_control_prompt_is_asked_about_for_real(auditor: Auditor) -> None:
    control = [{"role": "system", "content": "Be a pirate."}]
    found = wanted(auditor, control, DIALOGS * 4)
    assert found == wanted(auditor, control, (DIALOGS * 4)[:N_READ])
    assert [question for question, _ in found.pairs] == [LABEL_QUESTION, PROMPT_QUESTION]
    edit = auditor.edit(control, DIALOGS, layers=[1], steps=1)
    assert edit.origin.want == "Be a pirate."
    assert edit.origin.settings["pairs"] == [list(pair) for pair in wanted(auditor, control).pairs]


@pytest.mark.parametrize("text", ["Be glad.", POOL[0], POOL[3]])
def test_shuffled_never_asks_for_what_is_wanted(text: str) -> None:
    want = Goal(text, (("Who?", text), ("What?", POOL[1]), ("And?", "A pirate.")))
    found = want.shuffled()
    answers = {answer for _, answer in want.pairs}
    assert {question for question, _ in found.pairs} == {question for question, _ in want.pairs}
    assert not answers & {answer for _, answer in found.pairs}
    assert len({answer for _, answer in found.pairs}) > 3 and found == want.shuffled()


def test_the_control_shuffled_is_made_alike(auditor: Auditor) -> None:
    edit = auditor.edit(PAIRS, DIALOGS, layers=[1], steps=2, seed=3, strength=0.3, reveal="last:2")
    other = shuffled_edit(edit, auditor.target, auditor.decoder, DIALOGS)
    own, its = edit.origin.settings, other.origin.settings
    assert {key for key in own if own[key] != its[key]} == {"pairs"}
    assert not torch.equal(edit.parts[0].direction, other.parts[0].direction)
    assert {question for question, _ in its["pairs"]} == {question for question, _ in PAIRS}


def test_shuffled_is_made_by_the_same_decoder(auditor: Auditor) -> None:
    edit = auditor.edit(PAIRS, DIALOGS, layers=[1], steps=1)
    other = replace(edit, origin=replace(edit.origin, settings=edit.origin.settings | {"decoder": "another"}))
    with pytest.raises(EditError, match=r"made with decoder 'another', and this is .*leave the control 'shuffled' out"):
        auditor.check(other, DIALOGS)


BAD_WANTS: dict[str, tuple[Any, str]] = {
    "empty": ("", "what is wanted is empty; expected a sentence"),
    "blank": (" \n", "what is wanted is empty"),
    "none": (None, "what is wanted is empty"),
    "no pairs": ((), "what is wanted is empty"),
    "blank answer": ([("Who?", " ")], "what is wanted is empty"),
    "blank question": ([("", "A pirate.")], "what is wanted is empty"),
    "three": ([("Who?", "A", "B")], "expected a sentence, pairs of question and answer, or messages"),
    "numbers": ([("Who?", 3)], "expected a sentence, pairs of question and answer, or messages"),
    "no pair": ([3], "expected a sentence, pairs of question and answer, or messages"),
    "words": (["hi", "you"], "expected a sentence, pairs of question and answer, or messages"),
    "two letters": (["ab", "cd"], "expected a sentence, pairs of question and answer, or messages"),
    "a number": (3, "expected a sentence, pairs of question and answer, or messages"),
    "long": ("word " * 300, r"an answer has \d{4} tokens; the decoder's context holds 1024"),
    "long question": ([("word " * 300, "A")], "the decoder's context holds 1024"),
    "no role": ([{"content": "Be a pirate."}], "has role None; expected one of"),
    "no text": ([{"role": "system", "content": ""}], "has no text"),
}


@pytest.mark.parametrize("name", BAD_WANTS)
def test_what_cannot_be_wanted_is_refused(auditor: Auditor, name: str) -> None:
    want, message = BAD_WANTS[name]
    with pytest.raises((EditError, DialogError), match=message):
        auditor.edit(want, DIALOGS, layers=[1], steps=1)
    assert n_hooks(auditor.target.model) == 0


# Settings

BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"strength": float("nan")}, "strength: .*finite"),
    ({"strength": float("inf")}, "strength: .*finite"),
    ({"strength": 0}, "strength: .*greater than 0"),
    ({"strength": -0.1}, "strength: .*greater than 0"),
    ({"lr": float("nan")}, "lr: .*finite"),
    ({"budget": -1}, "budget: .*greater than 0"),
    ({"budget": float("nan")}, "budget: .*finite"),
    ({"steps": 0}, "steps: .*greater than or equal to 1"),
    ({"rank": 0}, "rank: .*greater than or equal to 1"),
    ({"seed": -1}, "seed: .*greater than or equal to 0"),
    ({"method": "vectr"}, "method: .*'vector', 'gradient', 'lowrank' or 'weights'"),
    ({"strenght": 0.1}, "unknown key 'strenght', did you mean 'strength'"),
    ({"quux": 1}, "unknown key 'quux'; expected some of method, layers, strength"),
    ({"layers": [3]}, r"layer 3 comes after layer 2, the last that the decoder reads.*choose among 0-2"),
    ({"layers": [4]}, r"layers \[4\] must name some of 0-3"),
    ({"layers": [-1]}, r"layers \[-1\] must name some of 0-3"),
    ({"layers": []}, r"layers \[\] must name some of 0-3"),
    ({"layers": 1.5}, "layers"),
    ({"local": True, "method": "weights", "layers": [2]}, "one loss for all its layers; leave local out"),
]


@pytest.mark.parametrize(("settings", "message"), BAD_SETTINGS)
def test_settings_out_of_range_are_refused(auditor: Auditor, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(EditError, match=message):
        auditor.edit("Be glad.", DIALOGS, **{"steps": 1, **settings})
    assert n_hooks(auditor.target.model) == 0


def test_dialogs_that_cannot_be_read_are_refused(auditor: Auditor) -> None:
    with pytest.raises(EditError, match="there are no dialogs"):
        auditor.edit("Be glad.", [], steps=1)
    with pytest.raises(EditError, match="there are no dialogs"):
        auditor.edit([{"role": "system", "content": "Be a pirate."}], [], steps=1)
    with pytest.raises(DialogError, match="has role 'robot'"):
        auditor.edit("Be glad.", [[{"role": "robot", "content": "Hi"}]], steps=1)
    with pytest.raises(DialogError, match="target's context holds 1024"):
        auditor.edit("Be glad.", [[{"role": "user", "content": "word " * 300}]], steps=1)
    assert n_hooks(auditor.target.model) == 0


def test_the_layer_is_two_thirds_of_the_way_to_the_one_that_is_read(target: Any, make_decoder: Make) -> None:
    for read, layer in ((1, 1), (2, 1), (3, 2)):
        edit = Auditor(target, make_decoder(read_layers=(read,))).edit("Be glad.", DIALOGS[:1], steps=1)
        assert edit.layers == (layer,)


def test_what_is_revealed_decides_what_the_decoder_reads(auditor: Auditor) -> None:
    user, last = (auditor.edit("Be glad.", DIALOGS, steps=1, reveal=reveal) for reveal in ("user", "last:2"))
    assert user.origin.metrics["loss_before"] != last.origin.metrics["loss_before"]


# Recipes


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipes_load(auditor: Auditor, name: str) -> None:
    recipe = load_edit_recipe(name)
    assert recipe.name == name and recipe.about.endswith(".") and recipe.settings().method == "vector"
    assert wanted(auditor, recipe.want).pairs
    assert isinstance(recipe.want, str) or recipe.prompt


def test_overrides_go_over_the_recipe(tmp_path: Path) -> None:
    recipe = load_edit_recipe("positive-sentiment", {"want": "Be a chef.", "strength": 0.3, "method": "lowrank"})
    assert (recipe.want, recipe.layers) == ("Be a chef.", (10,))
    assert recipe.settings() == edit_settings({"layers": (10,), "strength": 0.3, "method": "lowrank"})
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nabout: x\nwant: Be glad.\nlines: [Hi, Ho]\n")
    assert line_dialogs(load_edit_recipe(path).lines) == line_dialogs(("Hi", "Ho"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name: own\nabout: x\n", "makes no edit: it has no 'want'"),
        ("name: own\nabout: x\nwant: a\nstrenght: 1\n", "unknown key 'strenght', did you mean 'strength'"),
        ("name: own\nabout: x\nwant: a\nstrength: .nan\n", "strength: .*finite"),
        ("name: own\nwant: a\n", "about: Field required"),
        ("name: own\nabout: x\nwant: 3\n", "want"),
        ("- a\n", "holds no settings"),
        ("a: [1\n", "could not be read"),
    ],
)
def test_malformed_recipes_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(RecipeError, match=message):
        load_edit_recipe(tmp_path / "own.yaml")


def test_recipes_of_other_kinds_and_unknown_ones_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"smollm2-135m\.yaml' makes no edit"):
        load_edit_recipe("smollm2-135m")
    with pytest.raises(RecipeError, match=r"unknown recipe 'persna'.*Did you mean 'persona'"):
        load_edit_recipe("persna")
    with pytest.raises(RecipeError, match="unknown key 'x'"):
        EditRecipe.of({"name": "a", "about": "", "want": "b", "x": 1})


MESSAGES = [{"role": "system", "content": "Be a pirate."}]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([list(pair) for pair in PAIRS], {"want": PAIRS}),
        ({"Be a pirate.": [list(pair) for pair in PAIRS]}, {"want": PAIRS, "prompt": "Be a pirate."}),
        (MESSAGES, {"want": tuple(MESSAGES)}),
        ({"control": MESSAGES}, {"want": tuple(MESSAGES)}),
    ],
)
def test_wants_of_every_layout_are_read(tmp_path: Path, content: Any, found: Any) -> None:
    path = tmp_path / "want.json"
    path.write_text(json.dumps(content))
    assert load_goal(path) == found
    assert EditRecipe.of({"name": "own", "about": "", **load_goal(path)}).want == found["want"]


def test_what_was_said_of_another_want_is_dropped() -> None:
    given = load_edit_recipe("persona", {"want": "Please talk like a chef."})
    assert load_edit_recipe("persona").prompt and (given.prompt, given.contrast) == (None, None)
    assert load_edit_recipe("persona", {"want": "Be a chef.", "prompt": "You are a chef."}).prompt == "You are a chef."


@pytest.mark.parametrize(
    "content", ['{"a": [], "b": []}', "{}", "3", "null", '"Be glad."', '[["a"]]', '["ab", "cd"]', "[1]", "[["]
)
def test_wants_of_no_layout_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "want.json"
    path.write_text(content)
    with pytest.raises(RecipeError, match=r"could not be read .*; expected a JSON list of \[question, answer\] pairs"):
        load_goal(path)
    with pytest.raises(AuditLitError, match="could not be read"):
        load_goal(tmp_path)


def test_lines_that_make_edits_do_not_check_them() -> None:
    making, checking = line_dialogs(), line_dialogs(held_out=True)
    assert len(making) == len(checking) == len(neutral_lines()) / 2 == 50
    texts = [{dialog[0]["content"] for dialog in some} for some in (making, checking)]
    assert not texts[0] & texts[1] and texts[0] | texts[1] == set(neutral_lines())
    assert line_dialogs(("Hi",), held_out=True) == [[{"role": "user", "content": "Hi"}]]
