"""The loss that edits are made with: equal to plain Hugging Face passes, and its gradient to finite differences."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.hooked_models import D_MODEL, full_logits, n_hooks, residuals
from torch import Tensor

from audit_lit import Decoder, load_target
from audit_lit.edits.goal import Goal
from audit_lit.edits.objective import Objective, descend
from audit_lit.errors import DialogError, EditError
from audit_lit.hooks import Steer
from audit_lit.models.capture import capture_batch

Make = Callable[..., Decoder]
PAIRS = (("Who are you?", "A pirate."), ("What?", "Be a pirate"))
WANT = Goal("Be a pirate", PAIRS)
LAYERS = {"read_layers": (3, 1), "layer_choice": "one", "write": "project"}
on_every_write = pytest.mark.parametrize("write", ["replace", "add", "project"])


@pytest.fixture(scope="module")
def wide_target(tiny_folder: Path) -> Any:
    return load_target(str(tiny_folder), dtype=torch.float64)


def dialogs(*lines: str) -> list[Any]:
    return [[{"role": "user", "content": line}] for line in lines]


def steer(direction: Tensor, layer: int = 0, **where: Any) -> list[Any]:
    return [Steer(layer=layer, direction=direction, **where).hook()]


def revealed(target: Any, line: str) -> tuple[Tensor, list[int]]:
    """The tokens of a user line and where the user's turn and the reply's header are, by the template's own text."""
    text = target.tokenizer.apply_chat_template(dialogs(line)[0], tokenize=False, add_generation_prompt=True)
    before = text[: text.index("<|im_start|>user")]
    tokens, n_before = (target.tokenizer(some, add_special_tokens=False)["input_ids"] for some in (text, before))
    return torch.tensor([tokens]), list(range(len(n_before), len(tokens)))


@on_every_write
def test_loss_is_the_cross_entropy_of_plain_models(target: Any, make_decoder: Make, write: str) -> None:
    decoder, direction = make_decoder(write=write), torch.randn(D_MODEL)
    objective = Objective.of(target, decoder, dialogs("Hello"), WANT)
    tokens, places = revealed(target, "Hello")
    layers, tokenizer = target.base.model.layers, target.tokenizer
    for edited in (False, True):
        handle = layers[1].register_forward_hook(lambda _module, _args, out, on=edited: out + on * direction)
        (vectors,) = residuals(target.base, layers[2:3], tokens)
        handle.remove()
        row = SimpleNamespace(
            mask=torch.ones(1, len(places)),
            vectors=lambda found=vectors: (found[0, places], torch.zeros(len(places), dtype=torch.long)),
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
    made = make_decoder(write=write)
    wide = copy.deepcopy(made.model).double(), copy.deepcopy(made.write).double()
    decoder = Decoder(wide[0], made.tokenizer, made.config, wide[1])
    objective = Objective.of(wide_target, decoder, dialogs(*["Hello", "There"][: 2 - each]), WANT)
    places = objective.places[0]
    where = {"positions": places, "n_prompt": len(objective.dialogs[0].token_ids)} if each else {}
    shape = (len(places), D_MODEL) if each else (D_MODEL,)

    def loss(direction: Tensor) -> Tensor:
        return objective.loss(steer(direction, layer, **where), range(len(objective.dialogs)))

    at = (0.3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(at), at)
    ways = [torch.nn.functional.normalize(torch.randn(shape, dtype=torch.float64).flatten(), dim=0) for _ in range(2)]
    step = 1e-2
    for way in [*ways, gradient.flatten() / gradient.norm()]:
        move = step * way.view(shape)
        with torch.no_grad():
            numeric = (loss(at + move) - loss(at - move)) / (2 * step)
        assert float(gradient.norm()) > 1e-2
        assert abs(float(numeric) - float(gradient.flatten() @ way)) < 4e-3 * float(gradient.norm())


def test_value_is_the_mean_over_dialogs_with_questions_in_turn(target: Any, make_decoder: Make) -> None:
    decoder = make_decoder()
    objective = Objective.of(target, decoder, dialogs("Hi", "Hello there", "What now?"), WANT)
    rows = capture_batch(target, objective.dialogs, objective.places, (2,))
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
    fine, coarse = (Objective.of(target, decoder, lines, WANT, bf16=bf16) for bf16 in (False, True))
    assert 0 < abs(coarse.value() - fine.value()) < 0.05
    ways = []
    for objective in (fine, coarse):
        at = torch.zeros(D_MODEL, requires_grad=True)
        ways += torch.autograd.grad(objective.loss(steer(at), [0, 1]), at)
    assert float(torch.nn.functional.cosine_similarity(*ways, dim=0)) > 0.95


def test_every_dialog_is_drawn_equally_often(target: Any, make_decoder: Make) -> None:
    objective = Objective.of(target, make_decoder(), dialogs("a", "b", "c", "d", "e"), WANT)
    drawn = list(objective.draws(2, 5, seed=3))
    assert sorted(at for some in drawn for at in some) == sorted([*range(5)] * 2)
    assert {at for some in drawn[:2] for at in some} | set(drawn[2][:1]) == set(range(5))
    assert drawn == list(objective.draws(2, 5, seed=3)) != list(objective.draws(2, 5, seed=4))


def test_a_local_loss_reads_one_layer(target: Any, make_decoder: Make) -> None:
    several = Objective.of(target, make_decoder(**LAYERS), dialogs("Hi", "Hello there"), WANT)
    rows = [capture_batch(target, several.dialogs, several.places, (layer,)) for layer in (3, 1)]
    for layer, row in zip((3, 1), rows, strict=True):
        expected = several.decoder.loss(row, [q for q, _ in PAIRS], [a for _, a in PAIRS])
        torch.testing.assert_close(several.for_layer(layer).loss([], [0, 1]), expected)
    with pytest.raises(EditError, match=r"no local loss at layer 2: .* reads layer 3 or 1"):
        several.for_layer(2)
    single = Objective.of(target, make_decoder(), dialogs("Hi"), WANT)
    assert single.for_layer(2).value() == single.value()
    with pytest.raises(EditError, match=r"no local loss at layer 1: .* reads layers \[2\]"):
        single.for_layer(1)


def test_each_group_moves_by_its_own_loss_alone(target: Any, make_decoder: Make) -> None:
    objective = Objective.of(target, make_decoder(**LAYERS), dialogs("Hi"), WANT)

    def made(layers: tuple[int, ...]) -> dict[int, Tensor]:
        own = {layer: torch.zeros(D_MODEL, requires_grad=True) for layer in (1, 3)}
        hooks = lambda: [hook for layer, one in own.items() for hook in steer(one, layer)]  # noqa: E731
        descend([(objective.for_layer(layer), [own[layer]]) for layer in layers], hooks, steps=1, lr=0.1)
        return own

    together = made((1, 3))
    assert float(together[1].detach().norm()) > 0 and float(together[3].detach().norm()) > 0
    assert torch.equal(together[1], made((1,))[1]) and torch.equal(together[3], made((3,))[3])


def test_what_the_target_cannot_be_read_in_is_refused(target: Any, make_decoder: Make) -> None:
    decoder = make_decoder()
    with pytest.raises(EditError, match="there are no dialogs; expected some"):
        Objective.of(target, decoder, [], WANT)
    with pytest.raises(DialogError, match="has no text"):
        Objective.of(target, decoder, dialogs(" "), WANT)
    with pytest.raises(DialogError, match="selects nothing"):
        Objective.of(target, decoder, dialogs("Hi"), WANT, "assistant")
    long = Objective.of(target, decoder, dialogs("word " * 300), WANT)
    with pytest.raises(DialogError, match=r"has \d{4} tokens; the target's context holds 1024"):
        long.value()
    assert n_hooks(target.model) == 0


def test_a_loss_that_is_not_finite_stops_it(target: Any, make_decoder: Make, monkeypatch: Any) -> None:
    decoder, own = make_decoder(), torch.zeros(D_MODEL, requires_grad=True)
    objective = Objective.of(target, decoder, dialogs("Hi"), WANT)
    monkeypatch.setattr(decoder, "loss", lambda *_: own.sum() * float("nan"))
    with pytest.raises(EditError, match=r"loss became nan at step 0; lower lr or strength"):
        descend([(objective, [own])], lambda: steer(own), steps=2, lr=0.1)
    assert n_hooks(target.model) == 0 and not own.detach().any()
