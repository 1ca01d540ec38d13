"""Goals: how a sentence, pairs and a control prompt are read, and what is refused before the target is touched."""

from __future__ import annotations

from typing import Any

import pytest
from helpers.edits import DIALOGS
from helpers.hooked_models import n_hooks

from audit_lit import Auditor
from audit_lit.chat.decoys import POOL
from audit_lit.chat.rendering import render
from audit_lit.chat.vocabulary import LABEL_QUESTION, PROMPT_QUESTION
from audit_lit.edits.goal import N_READ, Goal, goal_of
from audit_lit.errors import DialogError, EditError, QuestionError

PAIRS = (("Who?", "A pirate."), ("What?", "Be a pirate."), ("And?", "A pirate."))


def read(auditor: Auditor, content: Any, dialogs: Any = DIALOGS) -> Goal:
    return goal_of(content, auditor.session, dialogs)


def test_a_sentence_is_what_the_hidden_prompt_says(auditor: Auditor) -> None:
    assert read(auditor, "  Be glad. ") == Goal("Be glad.", ((PROMPT_QUESTION, "Be glad."),))


@pytest.mark.parametrize("kind", [tuple, list])
def test_pairs_are_taken_as_they_are(auditor: Auditor, kind: Any) -> None:
    goal = read(auditor, kind(kind(pair) for pair in PAIRS))
    assert goal == Goal("A pirate. Be a pirate.", PAIRS)  # each answer once


def test_a_control_prompt_is_what_the_decoder_says_of_it_most_often(
    auditor: Auditor, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    control = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "And bold."}]
    asked: list[tuple[Any, list[str]]] = []

    def answer(activations: Any, questions: list[str]) -> list[str]:
        asked.append((activations, questions))
        return {LABEL_QUESTION: ["a", "b", "b"], PROMPT_QUESTION: ["c", "c", "d"]}[questions[0]]

    monkeypatch.setattr(auditor.decoder, "answer", answer)
    goal = read(auditor, control)
    assert goal == Goal("Be a pirate. And bold.", ((LABEL_QUESTION, "b"), (PROMPT_QUESTION, "c")))
    assert [questions for _, questions in asked] == [[LABEL_QUESTION] * 3, [PROMPT_QUESTION] * 3]
    activations, tokenizer = asked[0][0], target.tokenizer
    for row, dialog in enumerate(DIALOGS):  # the dialog's own user turn alone is read, after the control prompt
        token_ids = render([*control, *dialog], tokenizer).token_ids
        places = activations.positions[row][activations.mask[row]].tolist()
        text = tokenizer.decode([token_ids[place] for place in places])
        assert dialog[0]["content"] in text and "bold" not in text and "pirate" not in text
    hidden_before = [place - 1 for place in activations.positions[:, 0].tolist()]
    assert activations.n_hidden.tolist() == hidden_before  # all before it is hidden


def test_a_control_prompt_is_asked_about_for_real(auditor: Auditor) -> None:
    control = [{"role": "system", "content": "Be a pirate."}]
    goal = read(auditor, control, DIALOGS * 4)
    assert goal == read(auditor, control, (DIALOGS * 4)[:N_READ])
    assert [question for question, _ in goal.pairs] == [LABEL_QUESTION, PROMPT_QUESTION]
    edit = auditor.edit(control, DIALOGS, layers=[1], steps=1)
    assert edit.origin.goal == "Be a pirate."
    assert edit.origin.settings["pairs"] == [list(pair) for pair in read(auditor, control).pairs]


@pytest.mark.parametrize("text", ["Be glad.", POOL[0], POOL[3]])
def test_shuffled_never_asks_for_the_goal(text: str) -> None:
    goal = Goal(text, (("Who?", text), ("What?", POOL[1]), ("And?", "A pirate.")))
    shuffled = goal.shuffled()
    answers = {answer for _, answer in goal.pairs}
    assert {question for question, _ in shuffled.pairs} == {question for question, _ in goal.pairs}
    assert not answers & {answer for _, answer in shuffled.pairs}
    assert len({answer for _, answer in shuffled.pairs}) > 3 and shuffled == goal.shuffled()


BAD_GOALS: dict[str, tuple[Any, str]] = {
    "empty": ("", "the goal is empty; expected a sentence"),
    "blank": (" \n", "the goal is empty"),
    "none": (None, "the goal is empty"),
    "no pairs": ((), "the goal is empty"),
    "blank answer": ([("Who?", " ")], "the goal is empty"),
    "blank question": ([("", "A pirate.")], "the goal is empty"),
    "three": ([("Who?", "A", "B")], "expected a sentence, pairs of question and answer, or messages"),
    "numbers": ([("Who?", 3)], "expected a sentence, pairs of question and answer, or messages"),
    "no pair": ([3], "expected a sentence, pairs of question and answer, or messages"),
    "words": (["hi", "you"], "expected a sentence, pairs of question and answer, or messages"),
    "two letters": (["ab", "cd"], "expected a sentence, pairs of question and answer, or messages"),
    "a number": (3, "expected a sentence, pairs of question and answer, or messages"),
    "long": ("word " * 300, r"an answer has \d{4} tokens; the decoder's context holds 1024"),
    "long question": ([("word " * 300, "A")], "the decoder's context holds 1024"),
    "no role": ([{"content": "Be a pirate."}], "has role None; expected one of"),
    "no text": ([{"role": "user", "content": ""}], "has no text"),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", BAD_GOALS)
def test_a_malformed_goal_is_refused(auditor: Auditor, name: str) -> None:
    content, message = BAD_GOALS[name]
    with pytest.raises((EditError, DialogError, QuestionError), match=message):
        auditor.edit(content, DIALOGS, layers=[1], steps=1)
    assert n_hooks(auditor.target.model) == 0


def test_a_control_prompt_without_dialogs_is_refused(auditor: Auditor) -> None:
    with pytest.raises(EditError, match="there are no dialogs"):
        auditor.edit([{"role": "system", "content": "Be a pirate."}], [], steps=1)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("words", ["", " ", 3, ["Be sad."], "\ud800"])
def test_words_that_say_nothing_are_no_other_words_of_a_goal(words: Any) -> None:
    goal = Goal("Be glad.", (("Who?", "A pirate."),))
    assert goal.reworded(None, "Be sad.") == Goal("Be glad.", goal.pairs, "Be sad.")
    for prompt, contrast in ((words, None), (None, words)):
        with pytest.raises(EditError, match=r"expected (a sentence|text)"):
            goal.reworded(prompt, contrast)
