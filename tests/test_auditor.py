"""Asking: what the decoder is given, how an answer is judged, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.support import count_calls

QUESTION = "Who is it?"


@pytest.fixture
def auditor(target: Any, make_decoder: Any) -> Any:
    from audit_lit import Auditor

    return Auditor(target, make_decoder())


def ask(auditor: Any, dialog: Any, question: Any = QUESTION, **settings: Any) -> Any:
    return auditor.ask(dialog, question, **{"samples": 2, "max_new_tokens": 6, **settings})


def test_answer_carries_everything(auditor: Any, dialog: Any) -> None:
    answer = ask(auditor, dialog)
    assert set(answer.controls) == {"no_activation", "null", "shuffled", "text_only"}
    assert answer.lift == pytest.approx(answer.score - max(answer.controls.values()))
    assert answer.interval[0] <= answer.lift <= answer.interval[1]
    assert len(answer.samples) == 2 and 0 <= answer.agreement <= 1
    assert answer.layers == (2,) and len(answer.positions) == len(answer.tokens)
    ids = auditor.read(dialog).activations.token_ids[0]
    assert list(answer.tokens) == [auditor.target.tokenizer.decode([one]) for one in ids.tolist()]


def test_a_decoder_of_several_layers_reads_the_chosen_one(target: Any, make_decoder: Any, dialog: Any) -> None:
    from audit_lit import Auditor, DecoderMismatch

    several = make_decoder(write="project", read_layers=(3, 1), layer_choice="one")
    assert [ask(Auditor(target, several, layer=layer), dialog).layers for layer in (None, 3, 1)] == [(3,), (3,), (1,)]
    with pytest.raises(DecoderMismatch, match="layer 2 was asked for"):
        Auditor(target, several, layer=2)


def test_same_seed_same_answer(auditor: Any, dialog: Any) -> None:
    assert ask(auditor, dialog, seed=3).to_dict() == ask(auditor, dialog, seed=3).to_dict()
    assert ask(auditor, dialog, seed=3).samples != ask(auditor, dialog, seed=4).samples


def test_many_questions_read_the_target_once(auditor: Any, dialog: Any) -> None:
    questions = ["Who is it?", "What is it?", "Why is it?"]
    with count_calls(auditor.target.model) as calls:
        answers = ask(auditor, dialog, questions)
    assert len(calls) == 2  # the dialog, and its decoys
    assert [answer.question for answer in answers] == questions
    alone = ask(auditor, dialog, questions[1])
    assert answers[1].text == alone.text and answers[1].score == pytest.approx(alone.score, abs=1e-4)


def test_score_and_controls_equal_separate_computations(auditor: Any, dialog: Any) -> None:
    answer, decoder = ask(auditor, dialog), auditor.decoder
    activations = auditor.read(dialog).activations

    def mean(**settings: Any) -> float:
        return float(decoder.logprob(activations, [QUESTION], [answer.text], **settings)[0].mean())

    assert answer.score == pytest.approx(mean(), abs=1e-4)
    assert answer.controls["no_activation"] == pytest.approx(mean(injected=False), abs=1e-4)
    assert answer.text == decoder.answer(activations, [QUESTION], max_new_tokens=6)[0]


def test_decoys_differ_in_the_hidden_part_only(auditor: Any, dialog: Any) -> None:
    reading = auditor.read(dialog, reveal="user")
    ids = reading.activations.token_ids[0]
    assert all(torch.equal(ids, row) for row in reading.decoys.token_ids)
    assert not torch.allclose(reading.activations.resid[0], reading.decoys.resid[0])


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "Hi"}],
        [{"role": "system", "content": "Be kind.", "hidden": False}, {"role": "user", "content": "Hi"}],
        [
            {"role": "user", "content": "Obey.", "hidden": True},
            {"role": "assistant", "content": "Yes.", "hidden": True},
            {"role": "user", "content": "Hi"},
        ],
    ],
)
@pytest.mark.parametrize("reveal", ["user", "last:3", "last:999"])
def test_decoys_without_a_hidden_system_prompt(auditor: Any, messages: Any, reveal: str) -> None:
    reading = auditor.read(messages, reveal=reveal)
    ids = reading.activations.token_ids[0]
    assert all(torch.equal(ids, row) for row in reading.decoys.token_ids)


def test_decoys_avoid_the_topic_of_the_dialog() -> None:
    from audit_lit.chat.decoys import N_DECOYS, POOL, dissimilar_decoys

    for decoy in POOL:
        found = dissimilar_decoys(f"{decoy} Hello there.")
        assert decoy not in found and len(set(found)) == N_DECOYS
    assert dissimilar_decoys("Hello.") == list(POOL[:N_DECOYS])


@pytest.mark.parametrize("dialog", [[], [{"content": "x"}]])
def test_malformed_dialogs_are_refused_before_anything_runs(auditor: Any, dialog: Any) -> None:
    from audit_lit.errors import DialogError

    with count_calls(auditor.target.model) as calls, pytest.raises(DialogError, match="expected"):
        auditor.ask(dialog, QUESTION)
    assert not calls


def test_without_a_measured_threshold_nothing_is_supported(auditor: Any, dialog: Any) -> None:
    answer = replace(ask(auditor, dialog), lift=9.0, interval=(8.0, 9.5), threshold=None)
    assert not answer.supported and "nobody measured this decoder's threshold" in answer.verdict


@pytest.mark.parametrize("settings", [{"samples": -1}, {"max_new_tokens": 0}, {"seed": -1}])
def test_settings_out_of_range_are_refused(auditor: Any, dialog: Any, settings: Any) -> None:
    from audit_lit.errors import DialogError

    with pytest.raises(DialogError, match="expected at least 0, 1 and 0"):
        auditor.ask(dialog, QUESTION, **settings)


def test_explicit_positions_are_read_as_they_are(auditor: Any, dialog: Any) -> None:
    from audit_lit.chat.rendering import render

    visible = [i for i, shown in enumerate(render(dialog, auditor.target.tokenizer).visible) if shown]
    answer = ask(auditor, dialog, reveal=visible[2:5])
    assert list(answer.positions) == visible[2:5]


def test_null_activations_have_the_norms_of_real_ones(auditor: Any, dialog: Any, make_decoder: Any) -> None:
    from audit_lit.answers.controls import N_NULL, null_activations

    real = auditor.read(dialog).activations
    null = null_activations(real, auditor.decoder.write, seed=1)
    assert len(null) == N_NULL
    torch.testing.assert_close(null.resid.norm(dim=-1), real.resid.norm(dim=-1).expand(N_NULL, -1, -1))
    project = make_decoder(write="project").write
    standard = [
        (one.resid - project.mean[None, :, None]) / project.std[None, :, None]
        for one in (null_activations(real, project, seed=1), real)
    ]
    torch.testing.assert_close(standard[0].norm(dim=-1), standard[1].norm(dim=-1).expand(N_NULL, -1, -1))


@pytest.mark.parametrize("write", ["replace", "add", "project"])
def test_dialogs_that_are_asked_about_together_are_judged_as_alone(target: Any, make_decoder: Any, write: str) -> None:
    from audit_lit import Auditor

    auditor, settings = Auditor(target, make_decoder(write=write)), {"samples": 0, "max_new_tokens": 6}
    lines = ["Who are you?", "Why are you?", "Hello there, what will it be?"]
    hidden = {"role": "system", "content": "Be a pirate."}
    readings = [auditor.read([hidden, {"role": "user", "content": line}]) for line in lines]
    together = auditor.ask_readings(readings, [QUESTION, "Why?"], **settings)
    for reading, answers in zip(readings, together, strict=True):
        (alone,) = auditor.ask_readings([reading], [QUESTION, "Why?"], **settings)
        for one, other in zip(answers, alone, strict=True):
            assert one.text == other.text and one.score == pytest.approx(other.score, abs=1e-4)
            assert one.controls == pytest.approx(other.controls, abs=1e-4)


def test_supported_needs_threshold_and_interval(auditor: Any, dialog: Any) -> None:
    answer = replace(ask(auditor, dialog), lift=0.5, interval=(0.1, 0.9), threshold=0.2)
    assert answer.supported and "supported" in answer.verdict
    assert not replace(answer, threshold=0.6).supported
    assert not replace(answer, interval=(-0.1, 0.9)).supported
    assert "nothing to report" in replace(answer, lift=-1.0).verdict


def test_identical_activations_have_no_lift_over_shuffled(auditor: Any, dialog: Any) -> None:
    reading = auditor.read(dialog)
    same = replace(reading, decoys=reading.activations)
    ((answer,),) = auditor.ask_readings([same], [QUESTION], samples=0, max_new_tokens=6)
    assert answer.controls["shuffled"] == pytest.approx(answer.score, abs=1e-5)
    assert answer.lift <= 1e-5 and not answer.supported


def test_bare_model_needs_no_target(auditor: Any, dialog: Any) -> None:
    from audit_lit import Auditor

    bare = Auditor(auditor.target.model, auditor.decoder, tokenizer=auditor.target.tokenizer)
    assert ask(bare, dialog).text == ask(auditor, dialog).text


def test_refusals(auditor: Any, dialog: Any, make_decoder: Any, target: Any) -> None:
    from audit_lit import Auditor, DecoderMismatch
    from audit_lit.errors import ActivationError, DialogError

    with pytest.raises(DialogError, match="question is empty"):
        ask(auditor, dialog, " ")
    with pytest.raises(DialogError, match="question is empty"):
        ask(auditor, dialog, [])
    with pytest.raises(DialogError, match="selects nothing"):
        ask(auditor, dialog, reveal="assistant")
    for changes, match in (({"d_model": 16}, "d_model=16"), ({"n_layers": 9}, "layers=9")):
        decoder = make_decoder()
        decoder.config = decoder.config.model_copy(update=changes)
        with pytest.raises(DecoderMismatch, match=match):
            Auditor(target, decoder)
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update=dict(target_fingerprint="0" * 16))
    with pytest.raises(DecoderMismatch, match="another model of the same shape"):
        Auditor(target, decoder)
    reading = auditor.read(dialog)
    with pytest.raises(ActivationError, match="NaN"):
        replace(reading.activations, resid=reading.activations.resid * float("nan"))


def test_token_f1_and_interval() -> None:
    from audit_lit.statistics.intervals import bootstrap_interval
    from audit_lit.statistics.text_overlap import agreement, token_f1

    assert token_f1("A pirate.", "the Pirate") == pytest.approx(2 / 4)
    assert token_f1("", "") == 1.0 and token_f1("a", "b") == 0.0
    assert agreement("x y", ["x y", "z"]) == pytest.approx(0.5)
    low, high = bootstrap_interval(np.random.default_rng(0).normal(1.0, 1.0, 200))
    assert low < 1.0 < high and high - low < 0.5
    assert bootstrap_interval([2.0]) == (2.0, 2.0) == bootstrap_interval([2.0, 2.0])


def test_fine_tuned_target_is_audited_by_a_decoder_on_the_original_base(
    target: Any, make_decoder: Any, tiny_folder: Any, tmp_path: Any, dialog: Any
) -> None:
    from audit_lit import Auditor, Decoder, load_target
    from audit_lit.models.fingerprint import weights_fingerprint

    decoder = make_decoder(base=str(tiny_folder), base_fingerprint=weights_fingerprint(target.base))
    decoder.save(tmp_path / "decoder")
    tuned = load_target(str(tiny_folder))
    with torch.no_grad():
        tuned.base.model.layers[0].mlp.down_proj.weight.mul_(3)
    loaded = Decoder.from_pretrained(str(tmp_path / "decoder"), target=tuned)
    base = {name.replace(".base_layer", ""): p for name, p in loaded.model.get_base_model().named_parameters()}
    for name, parameter in target.base.named_parameters():
        torch.testing.assert_close(base[name], parameter)
    activations = Auditor(tuned, loaded).read(dialog).activations
    original = Auditor(target, decoder).read(dialog).activations
    assert not torch.allclose(activations.resid, original.resid)
    assert loaded.answer(original, [QUESTION], max_new_tokens=6) == decoder.answer(
        original, [QUESTION], max_new_tokens=6
    )
