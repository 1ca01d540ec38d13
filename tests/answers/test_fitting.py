"""Readings of files: answers are the same as about the target, and readings that do not fit a decoder are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.support import count_calls

from audit_lit import Activations, Auditor, Reading
from audit_lit.answers.answer import Answer
from audit_lit.answers.claims import claim_marginals
from audit_lit.errors import ActivationError, DecoderMismatch, TargetError

QUICK: dict[str, Any] = {"samples": 1, "max_new_tokens": 4}
CLAIMS = ["persona: pirate", "persona: chef"]


def without_target(auditor: Auditor) -> Auditor:
    return Auditor.without_target(auditor.session.full_decoder)


@pytest.fixture
def reading(auditor: Any, dialog: Any) -> Any:
    return auditor.read(dialog)


@pytest.mark.parametrize("write", ["replace", "add", "project"])
def test_answers_about_a_file_are_those_about_the_target(
    target: Any, make_decoder: Any, dialog: Any, tmp_path: Path, write: str
) -> None:
    decoder = make_decoder(write=write, target_fingerprint=target.fingerprint())
    auditor = Auditor(target, decoder)
    auditor.read(dialog).save(tmp_path / "a")
    loaded = Reading.load(tmp_path / "a")
    expected, claims = auditor.ask(dialog, ["Who?", "Why?"], **QUICK), auditor.score_claims(dialog, CLAIMS)
    for asker in (auditor, without_target(auditor)):
        with count_calls(target.model) as calls:
            assert asker.ask(loaded, ["Who?", "Why?"], **QUICK) == expected
            assert asker.score_claims(loaded, CLAIMS) == claims
        assert not calls


def test_without_a_target_nothing_can_run(auditor: Any, dialog: Any) -> None:
    alone = without_target(auditor)
    assert repr(alone).startswith("<Auditor of files, without a target, by")
    for call in (lambda: alone.ask(dialog, "Who?"), lambda: alone.read(dialog), lambda: alone.edit("Be glad.")):
        with pytest.raises(TargetError, match="there is no target here"):
            call()


def lack(reading: Reading, *fields: str) -> Reading:
    return replace(reading, **dict.fromkeys(fields))


@pytest.mark.parametrize(
    ("fields", "missing"),
    [
        ((), ()),
        (("decoys",), ("shuffled",)),
        (("visible_text", "dialog"), ("text_only",)),
        (("decoys", "visible_text"), ("shuffled", "text_only")),
    ],
)
def test_controls_that_cannot_be_computed_are_named_and_nothing_is_supported(
    auditor: Any, reading: Any, fields: tuple[str, ...], missing: tuple[str, ...]
) -> None:
    answer: Answer = auditor.ask(lack(reading, *fields), "Who?", **QUICK)
    assert answer.missing == missing
    assert set(answer.controls) == {"no_activation", "null", "shuffled", "text_only"} - set(missing)
    whole = auditor.ask(reading, "Who?", **QUICK)
    assert {name: whole.controls[name] for name in answer.controls} == pytest.approx(answer.controls, abs=1e-5)
    surely = replace(answer, lift=9.0, interval=(8.0, 10.0), threshold=0.1)
    assert surely.supported == (not missing)
    assert all(name in surely.verdict for name in missing) and ("cannot be judged" in surely.verdict) == bool(missing)
    assert answer.to_dict()["missing"] == missing


def test_fewer_decoys_than_usual_are_no_whole_control(auditor: Any, reading: Any) -> None:
    few = replace(reading, decoys=reading.decoys.rows([0, 1]))
    answer = auditor.ask(few, "Who?", **QUICK)
    assert "shuffled" in answer.controls and answer.missing == ("shuffled",) and not answer.supported
    copies = replace(reading, decoys=reading.decoys.rows([0, 1, 2, 3, 4, 5, 6, 0]))
    for told in (answer.verdict, auditor.ask(copies, "Who?", **QUICK).verdict):
        assert "but shuffled is incomplete, and takes 8 decoys, of which copies count once (" in told
        assert told.endswith("); read the activations again with that")


def test_a_trained_text_baseline_is_missing_as_well(target: Any, make_decoder: Any, reading: Any) -> None:
    from audit_lit.decoder.text_baseline import TextBaseline

    decoder = make_decoder()
    decoder.text_baseline = TextBaseline(decoder.model, decoder.tokenizer, decoder.config)
    answer = Auditor(target, decoder).ask(lack(reading, "visible_text"), "Who?", **QUICK)
    assert answer.missing == ("text_only", "text_trained")


def test_claims_need_something_to_be_compared_with(auditor: Any, reading: Any) -> None:
    bare = lack(reading, "decoys")
    with pytest.raises(ActivationError, match="the reading has no decoys, and the decoder no reference"):
        auditor.score_claims(bare, CLAIMS)
    auditor.decoder.reference = reading.decoys.rows([0, 3])
    for claim in auditor.score_claims(bare, CLAIMS):
        assert set(claim.controls) == {"no_activation"}
    of_the_last = auditor.score_claims(replace(reading, reveal="last:31"), CLAIMS)[0]
    marginal = claim_marginals(auditor.decoder, reading.decoys, CLAIMS)[0]
    assert of_the_last.controls["shuffled"] == pytest.approx(0) and marginal < 0
    with pytest.raises(ActivationError, match="no reference for these positions"):
        auditor.score_claims(replace(bare, reveal=None), CLAIMS)


def renamed(reading: Reading, source: str, fingerprint: str | None) -> Reading:
    activations = replace(reading.activations, source=source)
    return replace(reading, activations=activations, fingerprint=fingerprint)


def test_a_reading_of_another_model_is_refused(target: Any, make_decoder: Any, reading: Any) -> None:
    fingerprint = target.fingerprint()
    auditor = Auditor.without_target(make_decoder(target_fingerprint=fingerprint))
    with pytest.raises(DecoderMismatch, match="another model of the same shape"):
        auditor.ask(renamed(reading, target.name, "0" * 16), "Who?")
    with pytest.raises(DecoderMismatch, match="are of 'org/other', without a fingerprint"):
        auditor.ask(renamed(reading, "org/other", None), "Who?")
    for source, known in (("org/fine-tune", fingerprint), (target.name, None)):
        assert auditor.ask(renamed(reading, source, known), "Who?", **QUICK).target == source


@pytest.mark.parametrize("fingerprint", ["junk", "", "0123-4567"])
def test_a_fingerprint_that_cannot_be_compared_proves_nothing(
    target: Any, make_decoder: Any, reading: Any, fingerprint: str
) -> None:
    evil = renamed(reading, "evil/other-model", fingerprint)
    for asker in (Auditor.without_target(make_decoder()), Auditor(target, make_decoder())):
        with pytest.raises(DecoderMismatch, match="are of 'evil/other-model', without a fingerprint that could tell"):
            asker.ask(evil, "Who?")
    assert Auditor.without_target(make_decoder()).ask(renamed(reading, target.name, fingerprint), "Who?", **QUICK).text


def test_a_reading_of_the_target_that_is_here_may_have_its_name(make_decoder: Any, target: Any, reading: Any) -> None:
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update={"target": "org/other"})
    auditor = Auditor(target, decoder)
    assert auditor.ask(renamed(reading, target.name, None), "Who?", **QUICK).missing == ()
    with pytest.raises(DecoderMismatch, match="without a fingerprint"):
        Auditor.without_target(auditor.decoder).ask(renamed(reading, target.name, None), "Who?")


def test_a_reading_of_another_shape_is_refused(auditor: Any, reading: Any) -> None:
    rows, alone = reading.activations, without_target(auditor)
    narrow = replace(reading, activations=replace(rows, resid=rows.resid[..., :16]), decoys=None)
    with pytest.raises(DecoderMismatch, match="d_model=16"):
        alone.ask(narrow, "Who?")
    with pytest.raises(DecoderMismatch, match="has layers=31"):
        alone.ask(replace(reading, activations=replace(rows, layers=(30,)), decoys=None), "Who?")
    with pytest.raises(ActivationError, match=r"layer 2 was not read; these activations have layers \[1\]"):
        alone.ask(replace(reading, activations=replace(rows, layers=(1,)), decoys=None), "Who?")


def test_more_layers_than_the_decoder_reads_do_no_harm(target: Any, make_decoder: Any, dialog: Any) -> None:
    several = Auditor(target, make_decoder(read_layers=(1, 2), section="Layer {layer}: {slots}"))
    one = make_decoder(write="project", read_layers=(2, 1), layer_choice="one")
    wide = several.read(dialog)
    for layer in (1, 2):
        expected = Auditor(target, one, layer=layer).ask(dialog, "Who?", **QUICK)
        assert Auditor.without_target(one, layer=layer).ask(wide, "Who?", **QUICK) == expected


def test_tokens_of_another_tokenizer_or_dialog_are_refused(auditor: Any, reading: Any) -> None:
    alone = without_target(auditor)
    other = replace(reading, dialog=({"role": "user", "content": "Who are they?"},))
    for asker in (auditor, alone):
        with pytest.raises(ActivationError, match=r"holds token .* at position .*, where its dialog has"):
            asker.ask(other, "Who?")
    far = replace(reading, activations=replace(reading.activations, positions=reading.activations.positions + 500))
    with pytest.raises(ActivationError, match="where its dialog has None"):
        alone.ask(far, "Who?")
    assert alone.ask(lack(other, "dialog"), "Who?", **QUICK).text


def test_hidden_positions_are_refused(auditor: Any, dialog: Any) -> None:
    shown = [{**dialog[0], "hidden": False}, dialog[1]]
    reading = auditor.read(shown, reveal=[15, 16])
    with pytest.raises(ActivationError, match="position 15, which is in a hidden turn"):
        auditor.ask(replace(reading, dialog=tuple(dialog)), "Who?")
    assert auditor.ask(reading, "Who?", **QUICK).positions == (15, 16)


@pytest.fixture
def of_a_fine_tune(target: Any, make_decoder: Any, dialog: Any) -> tuple[Auditor, Reading]:
    """A reading of hidden positions, by another name and with the target's fingerprint, and who may be asked."""
    shown = [{**dialog[0], "hidden": False}, dialog[1]]
    decoder = make_decoder(target_fingerprint=target.fingerprint())
    reading = replace(Auditor(target, decoder).read(shown, reveal=[15, 16]), rendered=None, dialog=tuple(dialog))
    return Auditor.without_target(decoder), renamed(reading, "mine", target.fingerprint())


def test_another_name_does_not_show_what_is_hidden(of_a_fine_tune: Any) -> None:
    alone, reading = of_a_fine_tune
    with pytest.raises(ActivationError, match="position 15, which is in a hidden turn"):
        alone.ask(reading, "Who?")


@pytest.mark.parametrize("change", ["dialog", "token", "base"])
def test_nothing_is_supported_where_nobody_knows_what_is_visible(
    of_a_fine_tune: Any, target: Any, reading: Any, change: str
) -> None:
    alone, _ = of_a_fine_tune
    reading = renamed(replace(reading, rendered=None), "mine", target.fingerprint())
    assert alone.ask(reading, "Who?", **QUICK).missing == ()
    if change == "dialog":
        reading = replace(reading, dialog=None)
    elif change == "token":
        rows = reading.activations
        reading = replace(reading, activations=replace(rows, token_ids=rows.token_ids + 1))
    else:
        alone.decoder.config = alone.decoder.config.model_copy(update={"base": "org/base"})
    alone.decoder.config = alone.decoder.config.model_copy(update={"claim_scale": (1.0, 0.0)})
    answer = alone.ask(reading, "Who?", **QUICK)
    surely = replace(answer, lift=9.0, interval=(8.0, 10.0), threshold=0.1)
    assert answer.missing == ("visibility",) and not surely.supported and "cannot be judged" in surely.verdict
    assert alone.score_claims(reading, CLAIMS)[0].probability is None


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"visible_text": ""}, "visible_text '', which contradicts its dialog; expected user: Who are you"),
        ({"visible_text": "zzz"}, "visible_text 'zzz', which contradicts"),
        ({"tokens": ("zzz",) * 31}, "tokens .*'zzz'.* contradicts its dialog"),
        ({"reveal": (-99,) * 31}, "position -99 is outside"),
        ({"reveal": "assistant"}, "reveal='assistant' selects nothing"),
        ({"reveal": "last:30"}, "reveal 'last:30', which contradicts its dialog"),
        ({"reveal": (-1,)}, "reveal .*, which contradicts its dialog"),
    ],
)
def test_a_reading_that_contradicts_its_dialog_is_refused(
    auditor: Any, reading: Any, fields: dict[str, Any], words: str
) -> None:
    for asker in (auditor, without_target(auditor)):
        with pytest.raises(ActivationError, match=words):
            asker.ask(replace(reading, **fields), "Who?")


@pytest.mark.parametrize("n_hidden", [0, 3])
def test_another_number_of_hidden_tokens_is_refused(auditor: Any, reading: Any, n_hidden: int) -> None:
    wrong = replace(reading.activations, n_hidden=torch.tensor([n_hidden]))
    with pytest.raises(ActivationError, match=f"n_hidden {n_hidden}, which contradicts its dialog"):
        auditor.ask(replace(reading, activations=wrong), "Who?")


def test_the_visible_text_may_be_that_of_the_messages_or_of_the_template(auditor: Any) -> None:
    reading = auditor.read([{"role": "user", "content": " Hi "}])
    for text in (reading.visible_text, "user:  Hi ", None):
        assert auditor.ask(replace(reading, visible_text=text), "Who?", **QUICK).text


def copies(rows: Activations) -> Activations:
    return rows.rows([0] * len(rows))


def zeros(rows: Activations) -> Activations:
    return replace(rows, resid=torch.zeros_like(rows.resid))


@pytest.mark.parametrize("change", [copies, zeros])
def test_copies_are_no_whole_control(auditor: Any, reading: Any, change: Callable[[Activations], Activations]) -> None:
    auditor.decoder.config = auditor.decoder.config.model_copy(update={"claim_scale": (1.0, 0.0)})
    copied = replace(reading, decoys=change(reading.decoys))
    assert auditor.ask(copied, "Who?", **QUICK).missing == ("shuffled",)
    known = [auditor.score_claims(value, CLAIMS)[0].probability is not None for value in (reading, copied)]
    assert known == [True, False]


def test_decoys_without_a_row_are_none(auditor: Any, reading: Any) -> None:
    empty = replace(reading, decoys=reading.decoys.rows([]), reveal="last:31")
    assert auditor.ask(empty, "Who?", **QUICK).missing == ("shuffled",)
    with pytest.raises(ActivationError, match="the reading has no decoys"):
        auditor.score_claims(empty, CLAIMS)


def test_padding_is_not_compared(auditor: Any, reading: Any) -> None:
    def padded(name: str) -> Any:
        return torch.nn.functional.pad(getattr(reading.activations, name), (0, 2))

    tensors = {name: padded(name) for name in ("mask", "token_ids", "positions")}
    resid = torch.nn.functional.pad(reading.activations.resid, (0, 0, 0, 2))
    changed = replace(reading, activations=replace(reading.activations, resid=resid, **tensors))
    answer, expected = (auditor.ask(value, "Who?", **QUICK) for value in (changed, reading))
    alike = ("no_activation", "shuffled", "text_only")  # the random control has as many numbers as there are slots
    assert answer.text == expected.text and answer.score == pytest.approx(expected.score, abs=1e-5)
    assert all(answer.controls[name] == pytest.approx(expected.controls[name], abs=1e-5) for name in alike)
