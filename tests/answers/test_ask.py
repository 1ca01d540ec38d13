"""Asking: the target runs once, an answer carries everything, and dialogs do not disturb each other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.support import count_calls

from audit_lit.answers import ask as asking
from audit_lit.answers.ask import check_questions
from audit_lit.answers.session import Session
from audit_lit.errors import QuestionError
from audit_lit.models.generation import Sampling

QUESTION = "Who is it?"


@pytest.fixture
def session(target: Any, make_decoder: Any) -> Session:
    return Session.of(target, make_decoder())


def ask(session: Session, dialog: Any, questions: list[str], seed: int = 0) -> Any:
    (answers,) = asking.ask(session, [session.read(dialog)], questions, Sampling(6, samples=2, seed=seed))
    return answers


def test_answer_carries_everything(session: Session, dialog: Any) -> None:
    (answer,) = ask(session, dialog, [QUESTION])
    assert set(answer.controls) == {"no_activation", "null", "shuffled", "text_only"}
    assert answer.lift == pytest.approx(answer.score - max(answer.controls.values()))
    assert answer.interval[0] <= answer.lift <= answer.interval[1]
    assert len(answer.samples) == 2 and 0 <= answer.agreement <= 1
    assert answer.layers == (2,) and len(answer.positions) == len(answer.tokens)
    ids = session.read(dialog).activations.token_ids[0]
    assert list(answer.tokens) == [session.target.tokenizer.decode([one]) for one in ids.tolist()]


def test_same_seed_same_answer(session: Session, dialog: Any) -> None:
    answers = [ask(session, dialog, [QUESTION], seed)[0] for seed in (3, 3, 4)]
    assert answers[0].to_dict() == answers[1].to_dict()
    assert answers[0].samples != answers[2].samples


def test_many_questions_read_the_target_once(session: Session, dialog: Any) -> None:
    questions = ["Who is it?", "What is it?", "Why is it?"]
    with count_calls(session.target.model) as calls:
        answers = ask(session, dialog, questions)
    assert len(calls) == 2  # the dialog, and its decoys
    assert [answer.question for answer in answers] == questions
    (alone,) = ask(session, dialog, questions[1:2])
    assert answers[1].text == alone.text and answers[1].score == pytest.approx(alone.score, abs=1e-4)


def test_score_and_controls_equal_separate_computations(session: Session, dialog: Any) -> None:
    (answer,), decoder = ask(session, dialog, [QUESTION]), session.decoder
    activations = session.read(dialog).activations

    def mean(**settings: Any) -> float:
        return float(decoder.logprob(activations, [QUESTION], [answer.text], **settings)[0].detach().mean())

    assert answer.score == pytest.approx(mean(), abs=1e-4)
    assert answer.controls["no_activation"] == pytest.approx(mean(injected=False), abs=1e-4)
    assert answer.text == decoder.answer(activations, [QUESTION], max_new_tokens=6)[0]


@pytest.mark.parametrize("write", ["replace", "add", "project"])
def test_dialogs_that_are_asked_about_together_are_judged_as_alone(target: Any, make_decoder: Any, write: str) -> None:
    session, sampling = Session.of(target, make_decoder(write=write)), Sampling(6)
    lines = ["Who are you?", "Why are you?", "Hello there, what will it be?"]
    hidden = {"role": "system", "content": "Be a pirate."}
    readings = [session.read([hidden, {"role": "user", "content": line}]) for line in lines]
    together = asking.ask(session, readings, [QUESTION, "Why?"], sampling)
    for reading, answers in zip(readings, together, strict=True):
        (alone,) = asking.ask(session, [reading], [QUESTION, "Why?"], sampling)
        for one, other in zip(answers, alone, strict=True):
            assert one.text == other.text and one.score == pytest.approx(other.score, abs=1e-4)
            assert one.controls == pytest.approx(other.controls, abs=1e-4)


def test_identical_activations_have_no_lift_over_shuffled(session: Session, dialog: Any) -> None:
    reading = session.read(dialog)
    same = replace(reading, decoys=reading.activations)
    ((answer,),) = asking.ask(session, [same], [QUESTION], Sampling(6))
    assert answer.controls["shuffled"] == pytest.approx(answer.score, abs=1e-5)
    assert answer.lift <= 1e-5 and not answer.supported


@pytest.mark.parametrize("questions", [None, [], [""], ["Who?", " \n"]])
def test_empty_questions_are_refused(questions: list[str] | None) -> None:
    with pytest.raises(QuestionError, match=r"question is empty; expected|got no question; expected"):
        check_questions(questions)


def test_questions_may_come_from_a_generator() -> None:
    assert check_questions(question for question in ("Who?", "Why?")) == ["Who?", "Why?"]
