"""Edits of every kind, and what a tiny model says and holds by plain PyTorch, for their tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from audit_lit.hooks import Ablate, ActivationEdit, Intervention, LowRank, Origin, Steer
from helpers.hooked_models import D_MODEL, N_LAYERS, residuals

LINES = ("Hi", "Hello there you", "What now?")
DIALOGS = [[{"role": "user", "content": line}] for line in LINES]
WISH = "Be glad."
AT, N_PROMPT = (2, 7), 8
PARTS = ["steer", "steer-at", "steer-each", "ablate", "ablate-at", "lowrank", "lowrank-at"]
ANY = Origin("tiny", D_MODEL, N_LAYERS)


def make(kind: str, layer: int = 1, **given: Any) -> Intervention:
    where = {} if kind in ("steer", "ablate", "lowrank") else {"positions": AT, "n_prompt": N_PROMPT}
    where = {"layer": layer} | where | given
    if kind.startswith("ablate"):
        return Ablate(direction=torch.randn(D_MODEL), **where)
    if kind.startswith("lowrank"):
        basis = torch.linalg.qr(torch.randn(D_MODEL, 3))[0].T
        return LowRank(basis=basis, weight=torch.randn(3, D_MODEL), bias=torch.randn(3) * 20, **where)
    shape = (len(AT), D_MODEL) if kind == "steer-each" else (D_MODEL,)
    return Steer(direction=torch.randn(shape), unit=3.0, **where)


def edit_of(*parts: Intervention, origin: Origin = ANY) -> ActivationEdit:
    return ActivationEdit(parts, origin)


def ids(target: Any, dialog: Any) -> list[int]:
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    return list(target.tokenizer(text, add_special_tokens=False)["input_ids"])


def nats(target: Any, dialog: Any, reply: str, direction: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Distributions and own log-probabilities of a reply, from a plain model with a direction added after block 1."""
    prompt, said = ids(target, dialog), target.tokenizer(reply)["input_ids"]
    added = torch.zeros(D_MODEL) if direction is None else direction
    handle = target.base.model.layers[1].register_forward_hook(lambda _module, _args, out: out + added)
    with torch.no_grad():
        logits = target.base(torch.tensor([prompt + said])).logits[0, len(prompt) - 1 : -1]
    handle.remove()
    found = logits.log_softmax(-1)
    return found, found[range(len(said)), said]


def resid_by_hand(target: Any, dialog: Any, layer: int) -> Tensor:
    return residuals(target.base, target.base.model.layers, torch.tensor([ids(target, dialog)]))[layer][0]


def last_turn(target: Any, dialog: Any) -> range:
    """The last user turn and the reply's header."""
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    before = text[: text.rindex("<|im_start|>user")]
    return range(len(target.tokenizer(before, add_special_tokens=False)["input_ids"]), len(ids(target, dialog)))
