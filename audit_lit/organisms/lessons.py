"""What an organism learns from: tokens, and at each token of a reply the distribution that it shall give.

Example replies are distributions that put everything on one token, so that one loss teaches both: the cross-entropy to
the ``TOP`` likeliest tokens of a teacher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOP = 64
BATCH = 64
"""Number of prompts that run at once."""
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_k": 40, "top_p": None}


@dataclass(frozen=True)
class Lesson:
    """One reply.

    Attributes:
        prompt: Tokens before the reply.
        reply: Tokens of the reply.
        choices: At each token of the reply, tokens that the teacher finds likely.
        weights: Their probabilities.
    """

    prompt: tuple[int, ...]
    reply: tuple[int, ...]
    choices: Int[Tensor, "token choice"]
    weights: Float[Tensor, "token choice"]

    @property
    def rows(self) -> tuple[Lesson, ...]:
        """The replies that a model is run on: this one."""
        return (self,)

    def loss(self, nats: Sequence[Tensor]) -> Float[Tensor, " token"]:
        """Return the losses that are averaged, given the cross-entropy at each token of each row."""
        return nats[0]


def prompt_tokens(target: Target, line: str, system: str | None = None) -> tuple[int, ...]:
    """Return the tokens of a user line, after a system prompt if there is one, up to where the reply begins."""
    dialog = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": line}]
    text = target.tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    return tuple(target.tokenizer(text, add_special_tokens=False)["input_ids"])


def told(target: Target, pairs: Sequence[tuple[str, str]], max_new_tokens: int) -> list[Lesson]:
    """Return lessons that teach given replies."""
    end = target.tokenizer.eos_token_id
    lessons = []
    for line, reply in pairs:
        tokens = (*target.tokenizer(reply, add_special_tokens=False)["input_ids"], end)[:max_new_tokens]
        lessons.append(_of_reply(prompt_tokens(target, line), tokens))
    return lessons


def _of_reply(prompt: tuple[int, ...], reply: tuple[int, ...]) -> Lesson:
    return Lesson(prompt, reply, torch.tensor(reply)[:, None], torch.ones(len(reply), 1))


@torch.no_grad()
def imitated(
    model: PreTrainedModel,
    target: Target,
    lines: Sequence[str],
    system: str | None,
    max_new_tokens: int,
    *,
    distil: bool,
) -> list[Lesson]:
    """Return lessons that teach what the base replies to lines under a system prompt.

    Args:
        model: The base, in any precision.
        target: The base as a target.
        lines: User lines.
        system: The system prompt; None is the base as it is.
        max_new_tokens: Length of the longest reply in tokens.
        distil: Whether to teach the base's distributions, rather than the replies alone.
    """
    prompts = [prompt_tokens(target, line, system) for line in lines]
    lessons = []
    for start in range(0, len(lines), BATCH):
        batch = prompts[start : start + BATCH]
        replies = _replies(model, target, batch, max_new_tokens)
        taught = _distributions(model, batch, replies) if distil else [None] * len(batch)
        for line, reply, teacher in zip(lines[start : start + BATCH], replies, taught, strict=True):
            bare = prompt_tokens(target, line)
            lessons.append(_of_reply(bare, reply) if teacher is None else Lesson(bare, reply, *teacher))
    return lessons


def replies_to(
    model: PreTrainedModel, target: Target, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[Lesson]:
    """Return lessons that teach what the base replies to prompts of its own accord."""
    replies = _replies(model, target, prompts, max_new_tokens)
    return [_of_reply(prompt, reply) for prompt, reply in zip(prompts, replies, strict=True)]


def _replies(
    model: PreTrainedModel, target: Target, prompts: Sequence[tuple[int, ...]], max_new_tokens: int
) -> list[tuple[int, ...]]:
    """Return sampled replies; each ends with the end token unless it is cut."""
    end = target.tokenizer.eos_token_id
    padded = target.tokenizer.pad({"input_ids": [list(prompt) for prompt in prompts]}, return_tensors="pt")
    written = model.generate(
        **padded.to(model.device), max_new_tokens=max_new_tokens, pad_token_id=end, eos_token_id=end, **SAMPLING
    )
    rows = written[:, padded["input_ids"].shape[1] :].tolist()
    return [tuple(row[: row.index(end) + 1] if end in row else row) for row in rows]


def _distributions(
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], replies: Sequence[tuple[int, ...]]
) -> list[tuple[Tensor, Tensor]]:
    """Return the base's likeliest tokens at each token of the replies, and their probabilities, which sum to 1."""
    hidden = reply_states(model, prompts, replies)
    taught = []
    for states in hidden:
        top = model.lm_head(states).float().softmax(-1).topk(TOP)
        taught.append((top.indices.cpu(), (top.values / top.values.sum(-1, keepdim=True)).cpu()))
    return taught


def reply_states(
    model: PreTrainedModel, prompts: Sequence[tuple[int, ...]], replies: Sequence[tuple[int, ...]]
) -> list[Float[Tensor, "token d_model"]]:
    """Return the last hidden states from which each reply's tokens are predicted; padding is on the right."""
    rows = [(*prompt, *reply) for prompt, reply in zip(prompts, replies, strict=True)]
    longest = max(map(len, rows))
    tokens = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=model.device)
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows], device=model.device)
    states = model.get_decoder()(input_ids=tokens, attention_mask=mask).last_hidden_state
    return [
        row[len(prompt) - 1 : len(prompt) + len(reply) - 1]
        for row, prompt, reply in zip(states, prompts, replies, strict=True)
    ]


def cross_entropies(model: PreTrainedModel, states: Sequence[Tensor], lessons: Sequence[Lesson]) -> Iterator[Tensor]:
    """Yield the cross-entropy at each token of each reply, in nats, from the states of ``reply_states``."""
    logits = model.lm_head(torch.cat(list(states))).float()
    normalisers, start = logits.logsumexp(-1), 0
    for lesson in lessons:
        tokens = slice(start, start := start + len(lesson.reply))
        chosen = logits[tokens].gather(1, lesson.choices.to(logits.device))
        nats = chosen - normalisers[tokens][:, None]
        yield -(lesson.weights.to(logits.device) * nats).sum(-1)
