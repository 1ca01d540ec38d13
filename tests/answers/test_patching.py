"""Activation patching: the gain of one state, and of all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from helpers.support import DIALOG

from audit_lit.answers.patching import N_TOKENS, patch_activations
from audit_lit.answers.session import Session


def test_patching_the_whole_state_gives_the_whole_gain(target: Any, make_decoder: Any) -> None:
    session = Session.of(target, make_decoder())
    found = patch_activations(session, DIALOG, DIALOG[1:], "Who?", "A pirate.", reveal="last:1")
    assert found.layers[-1] == 2 and len(found.tokens) == 1
    assert found.nats[-1][0] == pytest.approx(found.whole, abs=2e-3)  # one token, read at that very layer
    assert abs(found.nats[0][0]) < abs(found.whole) and found.whole != 0
    same = patch_activations(session, DIALOG, DIALOG, "Who?", "A pirate.")
    assert same.whole == pytest.approx(0, abs=2e-3) and np.abs(same.nats).max() < 2e-3


def test_the_last_tokens_of_many_are_patched(target: Any, make_decoder: Any) -> None:
    session = Session.of(target, make_decoder())
    dialog = [DIALOG[0], {"role": "user", "content": "x" * (N_TOKENS + 9)}]
    heatmap = patch_activations(session, dialog, dialog[1:], "Who?", "A pirate.")
    reading = session.read(dialog)
    ids = reading.activations.token_ids[0, -N_TOKENS:].tolist()
    assert heatmap.tokens == tuple(target.tokenizer.batch_decode([[token] for token in ids]))
    assert {len(row) for row in heatmap.nats} == {N_TOKENS} and len(heatmap.nats) == len(heatmap.layers)


def test_the_first_slot_is_patched_where_it_was_read(target: Any, make_decoder: Any) -> None:
    session = Session.of(target, make_decoder(first_position=1))
    heatmap = patch_activations(session, DIALOG, DIALOG[1:], "Who?", "A pirate.")
    reading = session.read(DIALOG)
    tokens = target.tokenizer.batch_decode(reading.activations.token_ids[0, -N_TOKENS:, None])
    assert heatmap.tokens == tuple(tokens)
    short = patch_activations(session, DIALOG, DIALOG[1:], "Who?", "A pirate.", reveal="last:3")
    assert short.tokens[0] == target.tokenizer.decode(reading.rendered.token_ids[1])
    assert max(abs(row[0]) for row in short.nats) < 2e-3 < abs(short.whole)  # the same state in every dialog
