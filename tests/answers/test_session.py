"""A session: target and decoder that fit, and what the decoder may see of a dialog and its decoys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bpe import write_adapter, write_model
from helpers.chat_templates import message
from helpers.hooked_models import residuals
from helpers.models import make_config

from audit_lit import Decoder, DecoderMismatch, load_target
from audit_lit.answers.session import Session
from audit_lit.chat.rendering import render
from audit_lit.decoder.formats import activation_oracle
from audit_lit.edits.prompt import prompt_fields
from audit_lit.errors import DialogError, EditError
from audit_lit.hooks import ActivationEdit, Steer
from audit_lit.models.capture import capture_batch


@pytest.fixture
def session(target: Any, make_decoder: Any) -> Session:
    return Session.of(target, make_decoder())


def test_decoys_differ_in_the_hidden_part_only(session: Session, dialog: Any) -> None:
    reading = session.read(dialog)
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
def test_decoys_without_a_hidden_system_prompt(session: Session, messages: Any, reveal: str) -> None:
    reading = session.read(messages, reveal)
    ids = reading.activations.token_ids[0]
    assert all(torch.equal(ids, row) for row in reading.decoys.token_ids)


@pytest.mark.parametrize("hides", [True, False], ids=["hidden", "bare"])
def test_the_first_slot_says_the_same_of_a_dialog_and_its_decoys(
    target: Any, make_decoder: Any, dialog: Any, hides: bool
) -> None:
    messages = dialog if hides else dialog[1:]
    special = Session.of(target, make_decoder(first_position=1)).read(messages)
    plain = Session.of(target, make_decoder()).read(messages)
    for got, usual in ((special.activations, plain.activations), (special.decoys, plain.decoys)):
        assert set(got.positions[:, 0].tolist()) == {1} and torch.equal(got.positions[:, 1:], usual.positions[:, 1:])
        torch.testing.assert_close(got.resid[:, :, 1:], usual.resid[:, :, 1:])
        first = special.activations.resid[0, :, 0].expand_as(got.resid[:, :, 0])
        torch.testing.assert_close(got.resid[:, :, 0], first)  # no hidden text stands before it
    assert list(special.positions) == plain.activations.positions[0].tolist()


def test_decoys_show_bos_where_the_dialog_does(tmp_path: Path) -> None:
    base = write_model(tmp_path / "llama3", "llama3")
    write_adapter(tmp_path / "lora", base, target_modules=["q_proj"])
    target = load_target(str(tmp_path / "llama3"))
    decoder = Decoder.from_pretrained(
        str(tmp_path / "lora"),
        target=target,
        config=activation_oracle("ao", target=target.name, d_model=32, n_layers=4),
    )
    reading = Session.of(target, decoder).read([message("system", "Secret."), message("user", "Hi?")], "last:999")
    ids = reading.activations.token_ids[0]
    assert int(reading.activations.positions[0, 0]) == 0 and int(ids[0]) == target.tokenizer.bos_token_id
    assert all(torch.equal(ids, row) for row in reading.decoys.token_ids)


@pytest.mark.parametrize(("changes", "words"), [({"d_model": 16}, "d_model=16"), ({"n_layers": 9}, "layers=9")])
def test_a_decoder_of_another_target_is_refused(
    target: Any, make_decoder: Any, changes: dict[str, int], words: str
) -> None:
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update=changes)
    with pytest.raises(DecoderMismatch, match=words):
        Session.of(target, decoder)


def test_a_decoder_of_another_model_of_the_same_shape_is_refused(target: Any, make_decoder: Any) -> None:
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update={"target_fingerprint": "0" * 16})
    with pytest.raises(DecoderMismatch, match="another model of the same shape"):
        Session.of(target, decoder)


def test_a_session_for_another_layer_keeps_both_models(target: Any, make_decoder: Any, dialog: Any) -> None:
    decoder = make_decoder(write="project", read_layers=(3, 1), layer_choice="one")
    first = Session.of(target, decoder)
    second = first.for_layer(1)
    assert first.for_layer(None) is first and second.target is target and second.full_decoder is decoder
    assert [session.read(dialog).activations.layers for session in (first, second)] == [(3,), (1,)]
    with pytest.raises(DecoderMismatch, match="layer 2 was asked for"):
        first.for_layer(2)


@pytest.mark.parametrize("n_decoy_words", [0, 40])
def test_an_edit_of_one_prompt_says_why_no_decoys_can_be_read(
    session: Session, origin: Any, dialog: Any, n_decoy_words: int
) -> None:
    """Whether or not a decoy is as long as the prompt."""
    dialog = [{"role": "system", "content": "Be a pirate. " * max(1, n_decoy_words)}, *dialog[1:]]
    token_ids = render(dialog, session.target.tokenizer).token_ids
    steer = Steer(
        layer=1, direction=torch.ones(32), positions=(len(token_ids) - 1,), **prompt_fields(session.target, token_ids)
    )
    edit = ActivationEdit((steer,), origin)
    with edit.on(session.target.model), pytest.raises(EditError, match=r"cannot run on the dialog's decoys.*'vector'"):
        session.read(dialog)
    session.read(dialog)


def test_nothing_revealed_is_refused(session: Session, dialog: Any) -> None:
    with pytest.raises(DialogError, match="selects nothing"):
        session.read(dialog, "assistant")


SECRET = "\u00a7"
MIXED = [
    [message("system", SECRET * 4), message("user", "Who are you?"), message("assistant", "Nobody.")],
    [message("user", SECRET * 9, True), message("assistant", "Hi."), message("user", "And what now?")],
    [
        message("user", "Go."),
        message("assistant", "Ok."),
        message("user", SECRET, True),
        message("assistant", SECRET, True),
    ],
]


@pytest.mark.parametrize("policy", ["all", "edges"])
@pytest.mark.parametrize("reveal", ["user", "assistant", "last:5", "explicit"])
def test_hidden_spans_never_reach_the_decoder(target: Any, policy: str, reveal: str) -> None:
    config, tokenizer = make_config(target, positions=policy), target.tokenizer
    rendered = [render(dialog, tokenizer) for dialog in MIXED]
    reveals = [[at for at, v in enumerate(r.visible) if v][::2] if reveal == "explicit" else reveal for r in rendered]
    positions = [config.select(r, what) for r, what in zip(rendered, reveals, strict=True)]
    activations = capture_batch(target, rendered, positions, config.read_layers)
    assert len(activations) == len(rendered)
    for row, one in enumerate(rendered):
        kept = activations.mask[row]
        places = activations.positions[row][kept].tolist()
        assert places
        for turn in one.turns:
            assert not turn.hidden or not set(places) & set(range(turn.start, turn.end))
        ids = activations.token_ids[row][kept].tolist()
        assert ids == [one.token_ids[at] for at in places]
        assert SECRET not in tokenizer.decode(ids)
        alone = residuals(target.base, target.base.model.layers, torch.tensor([one.token_ids]))[2]
        torch.testing.assert_close(activations.resid[row, 0, kept], alone[0, places], rtol=1e-4, atol=1e-5)
