"""Interventions and edits of every kind, and what a tiny model says and holds by plain PyTorch, for their tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from audit_lit.chat.rendering import render
from audit_lit.edits.weights import WeightEdit, edited_target
from audit_lit.hooks import Ablate, ActivationEdit, Intervention, LowRank, Origin, Steer
from helpers.hooked_models import D_MODEL, N_LAYERS, residuals

LINES = ("Hi", "Hello there you", "What now?")
DIALOGS = [[{"role": "user", "content": line}] for line in LINES]
WISH = "Be glad."
POSITIONS, N_PROMPT = (2, 7), 8
INTERVENTION_KINDS = ["steer", "steer-at", "steer-each", "ablate", "ablate-at", "lowrank", "lowrank-at"]
ANY = Origin("tiny", D_MODEL, N_LAYERS)
"""The origin of an edit for any model of the tiny ones' shape."""
SEVERAL_LAYERS = {"read_layers": (3, 1), "layer_choice": "one", "write": "project"}
"""Changes to the tiny decoder's configuration for a decoder that reads one of two layers."""

METHODS = ("vector", "gradient", "lowrank", "weights")
METHOD_SETTINGS: dict[str, dict[str, Any]] = {"weights": {"lr": 1e-2}, "gradient": {"strength": 0.5}}


def make_intervention(kind: str, layer: int = 1, **values: Any) -> Intervention:
    """A random intervention; the kinds with a suffix change two positions of a prompt, ``each`` in its own way."""
    everywhere = kind in ("steer", "ablate", "lowrank")
    values = {"layer": layer} | ({} if everywhere else {"positions": POSITIONS, "n_prompt": N_PROMPT}) | values
    if kind.startswith("ablate"):
        return Ablate(direction=torch.randn(D_MODEL), **values)
    if kind.startswith("lowrank"):
        basis = torch.linalg.qr(torch.randn(D_MODEL, 3))[0].T
        return LowRank(basis=basis, weight=torch.randn(3, D_MODEL), bias=torch.randn(3) * 20, **values)
    shape = (len(POSITIONS), D_MODEL) if kind == "steer-each" else (D_MODEL,)
    return Steer(direction=torch.randn(shape), unit=3.0, **values)


def change_by_hand(change: Any, h: Tensor, index: int) -> Tensor:
    """What strength 1 adds to the residual of the position at an index, as the papers write it."""
    if isinstance(change, Steer):
        return change.unit * (change.direction if change.direction.ndim == 1 else change.direction[index])
    if isinstance(change, Ablate):
        return -torch.dot(h, change.direction) / change.direction.square().sum() * change.direction
    return change.basis.T @ (change.weight @ h + change.bias - change.basis @ h)


def edit_of(*interventions: Intervention, origin: Origin = ANY) -> ActivationEdit:
    return ActivationEdit(interventions, origin)


def tiny_edit(auditor: Any, method: str = "vector", **settings: Any) -> Any:
    """An edit that takes a few steps after block 1; ``gradient`` makes it for the first dialog."""
    few_steps = {"layers": [1], "steps": 4, **METHOD_SETTINGS.get(method, {}), **settings}
    return auditor.edit(WISH, DIALOGS[:1] if method == "gradient" else DIALOGS, method=method, **few_steps)


def same_edit(edit: Any, other: Any) -> bool:
    return all(torch.equal(*pair) for pair in zip(numbers_of(edit), numbers_of(other), strict=True))


def numbers_of(edit: Any) -> list[Tensor]:
    """Every tensor and every strength of an edit."""
    if isinstance(edit, WeightEdit):
        return [value.detach() for name, value in edit.adapter.named_parameters() if "lora_" in name]
    strengths = [torch.tensor(intervention.strength) for intervention in edit.interventions]
    return [*strengths, *(value for change in edit.interventions for value in change.tensors().values())]


@torch.no_grad()
def edited_logits(target: Any, edit: Any = None) -> Tensor:
    """Logits at every token of the second dialog, with the edit or without one."""
    tokens = torch.tensor([render(DIALOGS[1], target.tokenizer).token_ids])
    model, hooks = (target, []) if edit is None else edited_target(target, edit)
    with model.model.hooks(fwd_hooks=hooks):
        return model.model(tokens, attention_mask=torch.ones_like(tokens))


def ids(target: Any, dialog: Any) -> list[int]:
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    return list(target.tokenizer(text, add_special_tokens=False)["input_ids"])


def nats(target: Any, dialog: Any, reply: str, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distributions and own log-probabilities of a reply, from a plain model with a direction added after block 1."""
    prompt, reply_ids = ids(target, dialog), target.tokenizer(reply)["input_ids"]
    added = torch.zeros(D_MODEL) if direction is None else direction
    handle = target.base.model.layers[1].register_forward_hook(lambda _module, _args, out: out + added)
    with torch.no_grad():
        logits = target.base(torch.tensor([prompt + reply_ids])).logits[0, len(prompt) - 1 : -1]
    handle.remove()
    distributions = logits.log_softmax(-1)
    return distributions, distributions[range(len(reply_ids)), reply_ids]


def resid_by_hand(target: Any, dialog: Any, layer: int) -> Tensor:
    return residuals(target.base, target.base.model.layers, torch.tensor([ids(target, dialog)]))[layer][0]


def last_turn(target: Any, dialog: Any) -> range:
    """The last user turn and the reply's header."""
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    before = text[: text.rindex("<|im_start|>user")]
    return range(len(target.tokenizer(before, add_special_tokens=False)["input_ids"]), len(ids(target, dialog)))
