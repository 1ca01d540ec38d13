"""The loss that edits minimise: equal to plain Hugging Face passes, and its gradient to finite differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.bpe import QWEN3
from helpers.edits import SEVERAL_LAYERS
from helpers.hooked_models import D_MODEL, full_logits, n_hooks, residuals
from torch import Tensor

from audit_lit import Decoder, load_target
from audit_lit.answers.session import Session
from audit_lit.chat.rendering import render
from audit_lit.edits.goal import Goal
from audit_lit.edits.objective import Objective, descend
from audit_lit.edits.recipe import edit_settings
from audit_lit.errors import DialogError, EditError
from audit_lit.hooks import Steer
from audit_lit.models.capture import capture_batch
from audit_lit.models.wrapping import as_target

Make = Callable[..., Decoder]
PAIRS = (("Who are you?", "A pirate."), ("What?", "Be a pirate"))
GOAL = Goal("Be a pirate", PAIRS)
on_every_write = pytest.mark.parametrize("write", ["replace", "add", "project"])


@pytest.fixture(scope="module")
def wide_target(tiny_folder: Path) -> Any:
    loaded = load_target(str(tiny_folder))
    assert loaded.base is not None
    return as_target(loaded.base.double(), loaded.tokenizer, "wide")  # one row without padding is right in float64


def dialogs(*lines: str) -> list[Any]:
    return [[{"role": "user", "content": line}] for line in lines]


def objective_of(
    target: Any, decoder: Decoder, dialogs: list[Any], reveal: str = "user", bf16: bool = False
) -> Objective:
    return Objective.of(Session.of(target, decoder), dialogs, GOAL, reveal, bf16=bf16)


def steer(direction: Tensor, layer: int = 0, **placement: Any) -> list[Any]:
    return [Steer(layer=layer, direction=direction, **placement).hook()]


def revealed(target: Any, line: str) -> tuple[Tensor, list[int]]:
    """The tokens of a user line and where the user's turn and the reply's header are, by the template's own text."""
    text = target.tokenizer.apply_chat_template(dialogs(line)[0], tokenize=False, add_generation_prompt=True)
    before = text[: text.index("<|im_start|>user")]
    tokens, n_before = (target.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (text, before))
    return torch.tensor([tokens]), list(range(len(n_before), len(tokens)))


@on_every_write
def test_loss_is_the_cross_entropy_of_plain_models(target: Any, make_decoder: Make, write: str) -> None:
    decoder, direction = make_decoder(write=write), torch.randn(D_MODEL)
    objective = objective_of(target, decoder, dialogs("Hello"))
    tokens, places = revealed(target, "Hello")
    layers, tokenizer = target.base.model.layers, target.tokenizer
    for edited in (False, True):
        handle = layers[1].register_forward_hook(lambda _module, _args, out, on=edited: out + on * direction)
        (vectors,) = residuals(target.base, layers[2:3], tokens)
        handle.remove()
        row = SimpleNamespace(
            mask=torch.ones(1, len(places)),
            vectors=lambda vectors=vectors: (vectors[0, places], torch.zeros(len(places), dtype=torch.long)),
        )
        hooks = steer(direction, layer=1) if edited else []
        for turn, (question, answer) in enumerate(PAIRS):
            labels = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
            logits = full_logits(decoder, row, question, labels)[-len(labels) - 1 : -1]
            expected = torch.nn.functional.cross_entropy(logits, torch.tensor(labels))
            torch.testing.assert_close(objective.loss(hooks, [0], turn), expected, rtol=1e-5, atol=1e-5)
    assert n_hooks(target.model) == 0


@on_every_write
@pytest.mark.parametrize("layer", [0, 2])  # 2 is the one that is read
@pytest.mark.parametrize("each", [False, True])
def test_gradient_equals_finite_differences(
    wide_target: Any, make_decoder: Make, write: str, layer: int, each: bool
) -> None:
    """In float64, but for the norms, the written slots and the logits, which are float32 on purpose: hence the step."""
    single = make_decoder(write=write)
    model, write_op = copy.deepcopy(single.model).double(), copy.deepcopy(single.write).double()
    decoder = Decoder(model, single.tokenizer, single.config, write_op)
    objective = objective_of(wide_target, decoder, dialogs(*["Hello", "There"][: 2 - each]))
    positions = objective.positions[0]
    placement = {"positions": positions, "n_prompt": len(objective.dialogs[0].token_ids)} if each else {}
    shape = (len(positions), D_MODEL) if each else (D_MODEL,)

    def loss(direction: Tensor) -> Tensor:
        return objective.loss(steer(direction, layer, **placement), range(len(objective.dialogs)))

    point = (0.3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(point), point)
    ways = [torch.nn.functional.normalize(torch.randn(shape, dtype=torch.float64).flatten(), dim=0) for _ in range(2)]
    step = 1e-2
    for way in [*ways, gradient.flatten() / gradient.norm()]:
        move = step * way.view(shape)
        with torch.no_grad():
            numeric = (loss(point + move) - loss(point - move)) / (2 * step)
        assert float(gradient.norm()) > 1e-2
        assert abs(float(numeric) - float(gradient.flatten() @ way)) < 4e-3 * float(gradient.norm())


def test_value_is_the_mean_over_dialogs_with_questions_in_turn(target: Any, make_decoder: Make) -> None:
    decoder = make_decoder()
    objective = objective_of(target, decoder, dialogs("Hi", "Hello there", "What now?"))
    rows = capture_batch(target, objective.dialogs, objective.positions, (2,))
    (q0, a0), (q1, a1) = PAIRS
    with torch.no_grad():
        expected = decoder.loss(rows, [q0, q1, q0], [a0, a1, a0])
        torch.testing.assert_close(
            objective.loss([], [2, 0], turn=1), decoder.loss(rows.rows([2, 0]), [q1, q0], [a1, a0])
        )
    assert objective.value() == pytest.approx(float(expected), abs=1e-5)
    moved = objective.value(steer(torch.randn(D_MODEL), layer=2))
    assert abs(moved - objective.value()) > 1e-4
    assert objective.value(steer(torch.randn(D_MODEL), layer=3)) == objective.value()  # after what is read


def test_the_decoder_may_compute_in_bfloat16(target: Any, make_decoder: Make) -> None:
    decoder, lines = make_decoder(), dialogs("Hi", "Hello there")
    fine, coarse = (objective_of(target, decoder, lines, bf16=bf16) for bf16 in (False, True))
    assert 0 < abs(coarse.value() - fine.value()) < 0.05
    gradients = []
    for objective in (fine, coarse):
        direction = torch.zeros(D_MODEL, requires_grad=True)
        gradients += torch.autograd.grad(objective.loss(steer(direction), [0, 1]), direction)
    assert float(torch.nn.functional.cosine_similarity(*gradients, dim=0)) > 0.95


def test_every_dialog_is_drawn_equally_often(target: Any, make_decoder: Make) -> None:
    objective = objective_of(target, make_decoder(), dialogs("a", "b", "c", "d", "e"))
    drawn = list(objective.draws(2, 5, seed=3))
    assert sorted(index for batch in drawn for index in batch) == sorted([*range(5)] * 2)
    assert {index for batch in drawn[:2] for index in batch} | set(drawn[2][:1]) == set(range(5))
    assert drawn == list(objective.draws(2, 5, seed=3)) != list(objective.draws(2, 5, seed=4))


def test_a_local_loss_reads_one_layer(target: Any, make_decoder: Make) -> None:
    several = objective_of(target, make_decoder(**SEVERAL_LAYERS), dialogs("Hi", "Hello there"))
    rows = [capture_batch(target, several.dialogs, several.positions, (layer,)) for layer in (3, 1)]
    for layer, row in zip((3, 1), rows, strict=True):
        expected = several.session.full_decoder.loss(row, [q for q, _ in PAIRS], [a for _, a in PAIRS])
        torch.testing.assert_close(several.for_layer(layer).loss([], [0, 1]), expected)
    with pytest.raises(EditError, match=r"no local loss at layer 2: .* reads layer 3 or 1"):
        several.for_layer(2)
    single = objective_of(target, make_decoder(), dialogs("Hi"))
    assert single.for_layer(2).value() == single.value()
    with pytest.raises(EditError, match=r"no local loss at layer 1: .* reads layers \[2\]"):
        single.for_layer(1)


def test_each_group_moves_by_its_own_loss_alone(target: Any, make_decoder: Make) -> None:
    objective = objective_of(target, make_decoder(**SEVERAL_LAYERS), dialogs("Hi"))

    def fit(layers: tuple[int, ...]) -> dict[int, Tensor]:
        directions = {layer: torch.zeros(D_MODEL, requires_grad=True) for layer in (1, 3)}
        groups = [(objective.for_layer(layer), [directions[layer]]) for layer in layers]
        descend(
            groups,
            lambda: [hook for layer in (1, 3) for hook in steer(directions[layer], layer)],
            edit_settings({"steps": 1}),
            lr=0.1,
        )
        return directions

    together = fit((1, 3))
    assert float(together[1].detach().norm()) > 0 and float(together[3].detach().norm()) > 0
    assert torch.equal(together[1], fit((1,))[1]) and torch.equal(together[3], fit((3,))[3])


def test_what_the_target_cannot_be_read_in_is_refused(target: Any, make_decoder: Make) -> None:
    decoder = make_decoder()
    with pytest.raises(EditError, match="there are no dialogs; expected some"):
        objective_of(target, decoder, [])
    with pytest.raises(DialogError, match="has no text"):
        objective_of(target, decoder, dialogs(" "))
    with pytest.raises(DialogError, match="selects nothing"):
        objective_of(target, decoder, dialogs("Hi"), "assistant")
    long = objective_of(target, decoder, dialogs("word " * 300))
    with pytest.raises(DialogError, match=r"has \d{4} tokens; the target's context holds 1024"):
        long.value()
    assert n_hooks(target.model) == 0


def test_a_loss_that_is_not_finite_stops_it(target: Any, make_decoder: Make, monkeypatch: Any) -> None:
    decoder, direction = make_decoder(), torch.zeros(D_MODEL, requires_grad=True)
    objective = objective_of(target, decoder, dialogs("Hi"))
    monkeypatch.setattr(objective.decoder, "loss", lambda *_: direction.sum() * float("nan"))
    with pytest.raises(EditError, match=r"loss became nan at step 0; lower lr or strength"):
        descend([(objective, [direction])], lambda: steer(direction), edit_settings({"steps": 2}), lr=0.1)
    assert n_hooks(target.model) == 0 and not direction.detach().any()


def test_the_edited_prompt_is_the_one_that_replies_follow(target: Any, make_decoder: Make, monkeypatch: Any) -> None:
    monkeypatch.setattr(target.tokenizer, "chat_template", QWEN3)
    decoder = make_decoder(enable_thinking=False, reads_bos=True)
    objective = objective_of(target, decoder, dialogs("Hi"), "last:999")
    assert objective.dialogs[0].token_ids == render(dialogs("Hi")[0], target.tokenizer).token_ids
    assert Session.of(target, decoder).read(dialogs("Hi")[0]).rendered.text.endswith("</think>\n\n")
