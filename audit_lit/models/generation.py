"""Generate a target's replies, and score given replies; with any hooks on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError, SettingsError
from audit_lit.hooks import Hook
from audit_lit.models.padding import pad_left
from audit_lit.models.target import Target

BATCH = 50


@dataclass(frozen=True)
class Sampling:
    """How texts are generated.

    Attributes:
        max_new_tokens: Length of the longest text in tokens.
        temperature: 0 takes the likeliest token; otherwise the text is sampled.
        samples: Number of further texts after the same prompt, at temperature 1.
        seed: Of the sampling; the global random state is left as it was.
    """

    max_new_tokens: int = 60
    temperature: float = 0.0
    samples: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse settings that nothing can be generated with.

        Raises:
            SettingsError: If a value is out of its range.
        """
        if self.max_new_tokens < 1 or self.samples < 0 or self.seed < 0:
            raise SettingsError(
                f"got max_new_tokens={self.max_new_tokens}, samples={self.samples}, seed={self.seed}; expected at "
                "least 1, 0 and 0."
            )
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise SettingsError(f"got temperature={self.temperature}; expected a finite number, 0 or above.")

    @property
    def temperatures(self) -> tuple[float, ...]:
        """The temperature of each text after one prompt."""
        return (self.temperature, *[1.0] * self.samples)


@torch.no_grad()
def generate_replies(
    target: Target, dialogs: Sequence[Dialog], sampling: Sampling, hooks: Sequence[Hook] = ()
) -> list[str]:
    """Return what the target says next in each dialog.

    Dialogs are padded on the left and run together, so hooks on positions of a prompt need one dialog at a time.

    Args:
        target: The model that speaks.
        dialogs: Each ends with a user's turn.
        sampling: How replies are drawn; one reply to each dialog.
        hooks: Such as ``edit.fwd_hooks``; on for the prompt and for each new token.

    Raises:
        DialogError: If a dialog is malformed, or longer than the context with its reply.
        SettingsError: If several replies to each dialog are asked for.
    """
    if sampling.samples:
        raise SettingsError(f"got samples={sampling.samples}; a target gives one reply to each dialog. Use seeds.")
    rows = [list(render(dialog, target.tokenizer).token_ids) for dialog in dialogs]
    if (longest := max(map(len, rows)) + sampling.max_new_tokens) > target.n_ctx:
        raise DialogError(f"dialog and reply take {longest} tokens; the target's context holds {target.n_ctx}.")
    replies: list[str] = []
    with target.model.hooks(fwd_hooks=list(hooks)), target.seeded(sampling.seed):
        for start in range(0, len(rows), BATCH):
            replies += _batch(target, rows[start : start + BATCH], _generate_arguments(sampling))
    return replies


def _generate_arguments(sampling: Sampling) -> dict[str, Any]:
    arguments: dict[str, Any] = {"do_sample": sampling.temperature > 0, "max_new_tokens": sampling.max_new_tokens}
    if sampling.temperature > 0:
        arguments |= {"temperature": sampling.temperature, "top_k": None, "top_p": None}
    return arguments


def _batch(target: Target, rows: list[list[int]], arguments: dict[str, Any]) -> list[str]:
    """Generate by Hugging Face's own loop where there is one below (a bridge's hooks are on in it)."""
    model: Any = target.model
    end = target.tokenizer.eos_token_id
    if hasattr(model, "original_model"):
        tokens, mask = pad_left(rows, target)
        arguments |= {"attention_mask": mask, "pad_token_id": end, "eos_token_id": _end_tokens(target)}
        new = model.original_model.generate(tokens, **arguments)[:, tokens.shape[1] :]
    else:
        arguments |= {"verbose": False, "prepend_bos": False, "eos_token_id": end}
        prompts = [torch.tensor([row], device=target.device) for row in rows]
        new = [model.generate(prompt, **arguments)[0, prompt.shape[1] :] for prompt in prompts]
    return [str(text).strip() for text in target.tokenizer.batch_decode(new, skip_special_tokens=True)]


def _end_tokens(target: Target) -> list[int]:
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


def score_replies(
    target: Target, dialogs: Sequence[Dialog], replies: Sequence[str], hooks: Sequence[Hook] = ()
) -> list[Float[Tensor, " token"]]:
    """Return the log-probability in nats of each token of each reply."""
    return [nats for _, nats in reply_distributions(target, dialogs, replies, hooks)]


def perplexity(nats: Sequence[Tensor]) -> float:
    """Return the perplexity of replies whose tokens have these log-probabilities; 1 if nothing was said."""
    return math.exp(-sum(float(reply.sum()) for reply in nats) / max(1, sum(map(len, nats))))
