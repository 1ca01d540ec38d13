"""The auditor: what it passes on, and what it refuses before anything runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from helpers.reports import finding
from helpers.support import count_calls

from audit_lit import Auditor, DecoderMismatch, Target
from audit_lit.answers.ask import ask as answers_of
from audit_lit.answers.claims import score_claims
from audit_lit.chat.rendering import render
from audit_lit.errors import ActivationError, DialogError, EditError, QuestionError, SettingsError
from audit_lit.evaluation.evaluate import evaluate
from audit_lit.models.generation import Sampling

QUESTION = "Who is it?"


@pytest.fixture
def auditor(target: Any, make_decoder: Any) -> Any:
    return Auditor(target, make_decoder())


def ask(auditor: Any, dialog: Any, question: Any = QUESTION, **settings: Any) -> Any:
    return auditor.ask(dialog, question, **{"samples": 2, "max_new_tokens": 6, **settings})


def test_a_decoder_of_several_layers_reads_the_chosen_one(target: Any, make_decoder: Any, dialog: Any) -> None:
    several = make_decoder(write="project", read_layers=(3, 1), layer_choice="one")
    assert [ask(Auditor(target, several, layer=layer), dialog).layers for layer in (None, 3, 1)] == [(3,), (3,), (1,)]
    with pytest.raises(DecoderMismatch, match="layer 2 was asked for"):
        Auditor(target, several, layer=2)


@pytest.mark.parametrize("dialog", [[], [{"content": "x"}]])
def test_malformed_dialogs_are_refused_before_anything_runs(auditor: Any, dialog: Any) -> None:
    with count_calls(auditor.target.model) as calls, pytest.raises(DialogError, match="expected"):
        auditor.ask(dialog, QUESTION)
    assert not calls


@pytest.mark.parametrize("settings", [{"samples": -1}, {"max_new_tokens": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(auditor: Any, dialog: Any, settings: Any) -> None:
    with pytest.raises(SettingsError, match="expected at least 1, 0 and 0"):
        auditor.ask(dialog, QUESTION, **settings)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, True, 1.0, "1", None])
def test_a_seed_is_checked_the_same_way_everywhere(auditor: Any, edit: Any, dialog: Any, seed: Any) -> None:
    with count_calls(auditor.target.model) as calls:
        for call in (
            lambda: auditor.scan([dialog], seed=seed),
            lambda: auditor.check(edit, seed=seed),
            lambda: auditor.verify(finding(), seed=seed),
            lambda: evaluate("null", auditor.decoder, auditor.target, [], seed=seed),
        ):
            with pytest.raises(
                SettingsError, match=r"got seed=.*; expected a whole number from 0 to 9223372036854775807"
            ):
                call()
        with pytest.raises(SettingsError, match="seed"):
            auditor.ask(dialog, QUESTION, seed=seed)
        with pytest.raises(EditError, match="seed"):
            auditor.edit("Be glad.", [dialog], seed=seed)
    assert not calls


def test_explicit_positions_are_read_as_they_are(auditor: Any, dialog: Any) -> None:
    visible = [position for position, shown in enumerate(render(dialog, auditor.target.tokenizer).visible) if shown]
    answer = ask(auditor, dialog, reveal=visible[2:5])
    assert list(answer.positions) == visible[2:5]


def test_bare_model_needs_no_target(auditor: Any, dialog: Any) -> None:
    bare = Auditor(auditor.target.model, auditor.decoder, tokenizer=auditor.target.tokenizer)
    assert ask(bare, dialog).text == ask(auditor, dialog).text


def test_a_bare_model_takes_the_decoders_tokenizer_and_target_name(auditor: Any) -> None:
    bare = Auditor(auditor.target.model, auditor.decoder)
    assert isinstance(bare.target, Target) and bare.target.tokenizer is auditor.decoder.tokenizer
    assert bare.target.name in (auditor.target.model.cfg.model_name, auditor.decoder.config.target)


def test_refusals(auditor: Any, dialog: Any, make_decoder: Any, target: Any) -> None:
    with pytest.raises(QuestionError, match="question is empty"):
        ask(auditor, dialog, " ")
    with pytest.raises(QuestionError, match="got no question"):
        ask(auditor, dialog, [])
    with pytest.raises(DialogError, match="selects nothing"):
        ask(auditor, dialog, reveal="assistant")
    for changes, match in (({"d_model": 16}, "d_model=16"), ({"n_layers": 9}, "layers=9")):
        decoder = make_decoder()
        decoder.config = decoder.config.model_copy(update=changes)
        with pytest.raises(DecoderMismatch, match=match):
            Auditor(target, decoder)
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update={"target_fingerprint": "0" * 16})
    with pytest.raises(DecoderMismatch, match="another model of the same shape"):
        Auditor(target, decoder)
    reading = auditor.read(dialog)
    with pytest.raises(ActivationError, match="NaN"):
        replace(reading.activations, resid=reading.activations.resid * float("nan"))


def test_it_answers_as_its_session(auditor: Any, dialog: Any) -> None:
    reading, sampling = auditor.session.read(dialog), Sampling(6, samples=2, seed=3)
    ((expected,),) = answers_of(auditor.session, [reading], [QUESTION], sampling)
    assert ask(auditor, dialog, seed=3).to_dict() == expected.to_dict()
    assert ask(auditor, dialog, [QUESTION], seed=3) == [expected]
    claims = ["persona: pirate", "Rhyme."]
    assert auditor.score_claims(dialog, claims) == score_claims(auditor.session, dialog, claims, "user")


def test_threads_that_share_an_auditor_get_what_each_gets_alone(auditor: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    dialogs = [[{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi" * n}] for n in range(1, 4)]

    def asked(dialog: Any) -> Any:
        return auditor.ask(dialog, "Who?", samples=1, max_new_tokens=2)

    alone = [asked(dialog) for dialog in dialogs]
    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(asked, dialogs * 2)) == alone * 2
