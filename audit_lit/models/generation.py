"""Generate a target's replies and score given ones, with or without hooks on the target."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.rendering import render
from audit_lit.errors import DialogError, SettingsError
from audit_lit.hooks import Hook
from audit_lit.models.capture import pad_left
from audit_lit.models.target import Target
from audit_lit.settings import MAX_SEED

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BATCH_SIZE = 50
MAX_SAMPLES = 1000


@dataclass(frozen=True)
class Sampling:
    """How texts follow a prompt: one at ``temperature`` (0 takes the likeliest token), then ``samples`` more at 1."""

    max_new_tokens: int = 60
    temperature: float = 0.0
    samples: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise ``SettingsError`` if a value is out of its range."""
        counts = (self.max_new_tokens, self.samples, self.seed)
        if (
            not all(isinstance(count, Integral) and not isinstance(count, bool) for count in counts)
            or min(counts) < 0
            or self.max_new_tokens < 1
            or self.seed > MAX_SEED
            or self.samples > MAX_SAMPLES
        ):
            raise SettingsError(
                f"got max_new_tokens={self.max_new_tokens}, samples={self.samples}, seed={self.seed}; expected at "
                f"least 1, 0 and 0, each a whole number, of samples at most {MAX_SAMPLES}, and a seed of at most "
                f"{MAX_SEED}."
            )
        if self.temperature != 0 and not 1e-5 <= self.temperature <= 1e3:
            raise SettingsError(
                f"got temperature={self.temperature}; expected 0, or a finite number from 0.00001 to 1000."
            )


@torch.no_grad()
def generate_replies(
    target: Target, dialogs: Sequence[Dialog], sampling: Sampling, hooks: Sequence[Hook] = ()
) -> list[str]:
    """Return the target's reply to each dialog; hooks such as ``edit.fwd_hooks`` run at the prompt and each new token.

    Dialogs are padded on the left and run together: where hooks act on positions of a prompt, pass one at a time.
    """
    if sampling.samples:
        raise SettingsError(
            f"got samples={sampling.samples}; expected 0: call again with other seeds for more replies."
        )
    rows = [list(render(dialog, target.tokenizer).token_ids) for dialog in dialogs]
    if (longest := max(map(len, rows)) + sampling.max_new_tokens) > target.n_ctx:
        raise DialogError(
            f"dialog and reply take {longest} tokens; the target's context holds {target.n_ctx}. Shorten the dialog, "
            "or lower max_new_tokens."
        )
    replies: list[str] = []
    with target.model.hooks(fwd_hooks=list(hooks)), target.seeded(sampling.seed):
        for start in range(0, len(rows), BATCH_SIZE):
            replies += _generate_batch(target, rows[start : start + BATCH_SIZE], sampling)
    return replies


def _generate_batch(target: Target, rows: list[list[int]], sampling: Sampling) -> list[str]:
    """Generate by Hugging Face's loop under a bridge, where the bridge's hooks run, or else by the model's own."""
    arguments: dict[str, Any] = {"do_sample": sampling.temperature > 0, "max_new_tokens": sampling.max_new_tokens}
    if sampling.temperature > 0:
        arguments |= {"temperature": sampling.temperature, "top_k": None, "top_p": None}
    model: Any = target.model
    end = target.tokenizer.eos_token_id
    if hasattr(model, "original_model"):
        tokens, mask = pad_left(rows, target)
        ends = end_tokens(target.base, target.tokenizer)
        arguments |= {"attention_mask": mask, "pad_token_id": end, "eos_token_id": ends}
        new = model.original_model.generate(tokens, **arguments)[:, tokens.shape[1] :]
    else:
        arguments |= {"verbose": False, "prepend_bos": False, "eos_token_id": end}
        prompts = [torch.tensor([row], device=target.device) for row in rows]
        new = [model.generate(prompt, **arguments)[0, prompt.shape[1] :] for prompt in prompts]
    return [str(text).strip() for text in target.tokenizer.batch_decode(new, skip_special_tokens=True)]


def end_tokens(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that end a reply: the tokenizer's end token, and those that the model's own settings name."""
    config = getattr(model, "generation_config", None)
    model_ends = getattr(config, "eos_token_id", None) or []
    return sorted({tokenizer.eos_token_id, *([model_ends] if isinstance(model_ends, int) else model_ends)})


def reply_distributions(
    target: Target, dialogs: Sequence[Dialog], replies: Sequence[str], hooks: Sequence[Hook] = ()
) -> Iterator[tuple[Float[Tensor, "token vocab"], Float[Tensor, " token"]]]:
    """Yield for each reply two tables of log-probabilities in nats: of the vocabulary at each token, and of its tokens.

    Dialogs run one at a time and without padding, so that hooks find their positions.
    """
    for dialog, reply in zip(dialogs, replies, strict=True):
        prompt = render(dialog, target.tokenizer).token_ids
        reply_ids = target.tokenizer(reply, add_special_tokens=False)["input_ids"]
        tokens = torch.tensor([[*prompt, *reply_ids]], device=target.device)
        with torch.no_grad(), target.model.hooks(fwd_hooks=list(hooks)):
            logits = target.model(tokens, attention_mask=torch.ones_like(tokens))[0, len(prompt) - 1 : -1]
        nats = logits.to(target.device).float().log_softmax(-1)
        yield nats, nats.gather(1, tokens[0, len(prompt) :, None])[:, 0]


def score_replies(
    target: Target, dialogs: Sequence[Dialog], replies: Sequence[str], hooks: Sequence[Hook] = ()
) -> list[Float[Tensor, " token"]]:
    """Return the log-probability in nats of each token of each reply."""
    return [nats for _, nats in reply_distributions(target, dialogs, replies, hooks)]


def perplexity(nats: Sequence[Tensor]) -> float:
    """Return the perplexity of replies whose tokens have these log-probabilities in nats; 1 if all are empty."""
    return math.exp(-sum(float(reply.sum()) for reply in nats) / max(1, sum(map(len, nats))))
