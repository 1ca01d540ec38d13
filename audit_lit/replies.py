"""A target's replies, and how likely given replies are to it; with any hooks on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.activations import pad_left
from audit_lit.dialog import Dialog, render
from audit_lit.errors import DialogError
from audit_lit.hooks import Hook
from audit_lit.target import Target

BATCH = 50


@torch.no_grad()
def write_replies(
    target: Target,
    dialogs: Sequence[Dialog],
    hooks: Sequence[Hook] = (),
    *,
    max_new_tokens: int = 40,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Return what the target says next in each dialog.

    Dialogs are padded on the left and run together, so hooks on positions of a prompt need one dialog at a time.

    Args:
        target: What speaks.
        dialogs: Each ends with a user's turn.
        hooks: Such as ``edit.fwd_hooks``; on for the prompt and for each new token.
        max_new_tokens: Longest reply.
        temperature: 0 takes the likeliest token; otherwise samples.
        seed: Of the sampling; the global random state is left as it was.

    Raises:
        DialogError: If a dialog is malformed, or longer than the context with its reply.
    """
    rows = [list(render(dialog, target.tokenizer).token_ids) for dialog in dialogs]
    if (longest := max(map(len, rows)) + max_new_tokens) > target.n_ctx:
        raise DialogError(f"dialog and reply take {longest} tokens; the target's context holds {target.n_ctx}.")
    sampling: dict[str, Any] = {"do_sample": temperature > 0, "max_new_tokens": max_new_tokens}
    if temperature > 0:
        sampling |= {"temperature": temperature, "top_k": None, "top_p": None}
    found: list[str] = []
    with target.model.hooks(fwd_hooks=list(hooks)), target.seeded(seed):
        for start in range(0, len(rows), BATCH):
            found += _batch(target, rows[start : start + BATCH], sampling)
    return found


def _batch(target: Target, rows: list[list[int]], sampling: dict[str, Any]) -> list[str]:
    """Write replies by Hugging Face's own loop where there is one below (a bridge's hooks are on in it)."""
    model: Any = target.model
    end = target.tokenizer.eos_token_id
    if hasattr(model, "original_model"):
        tokens, mask = pad_left(rows, target)
        how = sampling | {"attention_mask": mask, "pad_token_id": end, "eos_token_id": _ends(target)}
        new = model.original_model.generate(tokens, **how)[:, tokens.shape[1] :]
    else:
        settings = {**sampling, "verbose": False, "prepend_bos": False, "eos_token_id": end}
        prompts = [torch.tensor([row], device=target.device) for row in rows]
        new = [model.generate(one, **settings)[0, one.shape[1] :] for one in prompts]
    return [str(text).strip() for text in target.tokenizer.batch_decode(new, skip_special_tokens=True)]


def _ends(target: Target) -> list[int]:
    """Return what ends a reply: the tokenizer's end token, and what the model's own generation settings name."""
    config = getattr(target.base, "generation_config", None)
    named = getattr(config, "eos_token_id", None) or []
    return sorted({target.tokenizer.eos_token_id, *([named] if isinstance(named, int) else named)})


def reply_distributions(
    target: Target, dialogs: Sequence[Dialog], replies: Sequence[str], hooks: Sequence[Hook] = ()
) -> Iterator[tuple[Float[Tensor, "token vocab"], Float[Tensor, " token"]]]:
    """Yield for each reply the log-probabilities in nats of every token in its place, and those of its own tokens.

    Dialogs run one at a time and unpadded, so that hooks find their positions.
    """
    for dialog, reply in zip(dialogs, replies, strict=True):
        prompt = render(dialog, target.tokenizer).token_ids
        said = target.tokenizer(reply, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([[*prompt, *said]], device=target.device)
        with torch.no_grad(), target.model.hooks(fwd_hooks=list(hooks)):
            logits = target.model(tokens, attention_mask=torch.ones_like(tokens))[0, len(prompt) - 1 : -1]
        nats = logits.float().log_softmax(-1)
        yield nats, nats.gather(1, tokens[0, len(prompt) :, None])[:, 0]


def reply_nats(
    target: Target, dialogs: Sequence[Dialog], replies: Sequence[str], hooks: Sequence[Hook] = ()
) -> list[Float[Tensor, " token"]]:
    """Return the log-probability in nats of each token of each reply."""
    return [own for _, own in reply_distributions(target, dialogs, replies, hooks)]


def perplexity(nats: Sequence[Tensor]) -> float:
    """Return the perplexity of replies whose tokens have these log-probabilities; 1 if nothing was said."""
    return math.exp(-sum(float(own.sum()) for own in nats) / max(1, sum(map(len, nats))))
