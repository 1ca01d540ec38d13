"""Capturing: what a batch of dialogs leaves at the chosen positions, on every kind of model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hooked_models import Hooked, every_model, residuals
from helpers.models import byte_tokenizer

from audit_lit import Target, load_target
from audit_lit.chat.dialog import RenderedDialog
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError
from audit_lit.models.capture import capture_batch, capture_dialogs

hooked_model = every_model


def dialogs(tokenizer: Any, *lengths: int) -> tuple[list[RenderedDialog], list[tuple[int, ...]]]:
    rendered = [render([{"role": "user", "content": "x" * length}], tokenizer) for length in lengths]
    return rendered, [
        reveal_positions(one, "user")[: length + 3] for one, length in zip(rendered, lengths, strict=True)
    ]


def test_reading_a_batch_of_dialogs_on_every_model(hooked_model: Hooked) -> None:
    target = Target(hooked_model.model, byte_tokenizer(), "tiny")
    rendered, positions = dialogs(target.tokenizer, 4, 1, 9)
    got = capture_batch(target, rendered, positions, [2, -4])
    assert got.layers == (2, 0)
    assert got.n_hidden.tolist() == [one.n_hidden for one in rendered]
    for row, (one, places) in enumerate(zip(rendered, positions, strict=True)):
        expected = residuals(hooked_model.hf, hooked_model.blocks, torch.tensor([one.token_ids]))
        kept = got.mask[row]
        assert got.positions[row][kept].tolist() == list(places)
        assert got.token_ids[row][kept].tolist() == [one.token_ids[at] for at in places]
        for index, layer in enumerate(got.layers):
            torch.testing.assert_close(
                got.resid[row, index, kept], expected[layer][0, list(places)], rtol=1e-4, atol=1e-5
            )
        assert not got.resid[row, :, ~kept].any()


def test_reading_many_keeps_the_order_and_equals_one_by_one(target: Any) -> None:
    rendered, positions = dialogs(target.tokenizer, 7, 1, 5, 3, 2)
    got = capture_dialogs(target, rendered, positions, (1, 2), batch_size=2)
    assert len(got) == 5
    for row in range(5):
        one = capture_batch(target, rendered[row : row + 1], positions[row : row + 1], (1, 2))
        torch.testing.assert_close(got.rows([row]).vectors()[0], one.vectors()[0], rtol=1e-4, atol=1e-5)
        assert got.positions[row][got.mask[row]].tolist() == list(positions[row])


def test_reading_with_a_graph_reaches_the_target(tiny_folder: Path) -> None:
    target = load_target(str(tiny_folder))  # of its own: a LoRA on the shared base freezes its weights
    rendered, positions = dialogs(target.tokenizer, 2)
    embedding = next(iter(target.model.parameters()))
    resid = capture_batch(target, rendered, positions, (0,), grad=True).resid
    assert torch.autograd.grad(resid.square().sum(), embedding)[0].norm() > 0
    assert not capture_batch(target, rendered, positions, (0,)).resid.requires_grad


def test_a_dialog_longer_than_the_context_is_refused(target: Any) -> None:
    rendered, positions = dialogs(target.tokenizer, 1, 1024)
    with pytest.raises(DialogError, match=r"the dialog has \d{4} tokens; the target's context holds 1024"):
        capture_batch(target, rendered, positions, (0,))
