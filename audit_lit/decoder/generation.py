"""Generate text with a base model and its LoRA; a prompt that several texts follow is computed once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.prefix_cache import BATCH_SIZE, Injection, PrefixCache, no_injection, prefill
from audit_lit.decoder.prompt import MARK, Prompt
from audit_lit.errors import DecoderConfigError, QuestionError
from audit_lit.models.blocks import context_length
from audit_lit.models.generation import Sampling, end_tokens

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import LogitsProcessorList, PreTrainedTokenizerBase

MIN_UNFINISHED = 0.8
"""Finished rows are dropped once fewer than this share of rows is unfinished: dropping copies keys and values."""


class LanguageModel:
    """A base model with its LoRA that generates text: the part that a decoder and a text baseline share."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, config: DecoderConfig) -> None:
        """Put the parts together; raise ``DecoderConfigError`` if no answer could end."""
        self.model, self.tokenizer, self.config = model, tokenizer, config
        end = config.answer_end or tokenizer.eos_token
        if not _has_token(tokenizer, end):
            raise DecoderConfigError(
                f"answers of {config.name!r} end with the token {end!r}, which the tokenizer of its base does not "
                "have, so that none would end; correct answer_end in its configuration."
            )

    @property
    def device(self) -> torch.device:
        """Device that the model runs on."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def generate(
        self, prompts: Sequence[Prompt], sampling: Sampling, injection: Injection = no_injection
    ) -> list[tuple[str, ...]]:
        """Return the texts that the model generates after each prompt."""
        self.check_length(prompts, sampling.max_new_tokens)
        settings: dict[str, Any] = {"top_p": self.config.top_p, "top_k": self.config.top_k, "injection": injection}
        tokens = generate(self.model, prompts, sampling, ends=self._ends, pad=self.pad, **settings)
        texts = [self.tokenizer.batch_decode(rows, skip_special_tokens=True) for rows in tokens]
        return [tuple(answer_in(str(text), self.config.answer_template) for text in row) for row in texts]

    def longest(self, max_new_tokens: int | None, default: int = 60) -> int:
        """Return the length of the longest answer: the caller's, else the format's, else ``default``."""
        return self.config.max_new_tokens or default if max_new_tokens is None else max_new_tokens

    def check_length(self, prompts: Sequence[Prompt], n_new: int) -> None:
        """Raise ``QuestionError`` unless each prompt fits the model's context with ``n_new`` new tokens."""
        longest = n_new + max(prompt.first + len(prompt.token_ids) for prompt in prompts)
        n_ctx = context_length(self.model)
        if n_ctx and longest > n_ctx:
            raise QuestionError(
                f"prompt and answer take {longest} tokens; the decoder's context holds {n_ctx}. Reveal fewer "
                "positions, ask a shorter question, or lower max_new_tokens."
            )

    def answer_ids(self, answer: str) -> list[int]:
        """Return an answer's tokens, as the decoder writes it, and its end token."""
        answer = self.config.answer_template.replace("{answer}", answer)
        return [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self._end]

    @property
    def pad(self) -> int:
        """The token that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return self._end if pad is None else int(pad)

    @cached_property
    def _ends(self) -> list[int]:
        """Tokens that end an answer: the format's own; else the tokenizer's, and those of the model's own settings."""
        if self.config.answer_end:
            return [int(self.tokenizer.convert_tokens_to_ids(self.config.answer_end))]
        return end_tokens(self.model, self.tokenizer)

    @cached_property
    def _end(self) -> int:
        """The token that ends an answer that is given: among several, the one that the chat template closes it with."""
        end = int(self.tokenizer.eos_token_id) if len(self._ends) > 1 else self._ends[0]
        if len(self._ends) == 1 or not self.config.chat:
            return end
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": MARK}]
        closing = str(self.tokenizer.apply_chat_template(messages, tokenize=False)).rpartition(MARK)[2]
        (first,) = self.tokenizer(closing, add_special_tokens=False)["input_ids"][:1] or [end]
        return int(first) if first in self._ends else end


def answer_in(text: str, template: str) -> str:
    """Return the answer in a text that a template such as ``<a>{answer}</a>`` was filled for.

    Without its beginning, the whole text is the answer; without its end, it was cut short.
    """
    before, after = (mark.strip() for mark in template.split("{answer}"))
    text = text.partition(before)[2] if before and before in text else text
    return (text.partition(after)[0] if after else text).strip()


def _has_token(tokenizer: PreTrainedTokenizerBase, token: str | None) -> bool:
    """Return whether a tokenizer has a token; it gives that of unknown text, or none, for one that it lacks."""
    index = None if token is None else tokenizer.convert_tokens_to_ids(token)
    return index is not None and bool(tokenizer.convert_ids_to_tokens(index) == token)


@torch.no_grad()
def generate(
    model: nn.Module,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    *,
    ends: Collection[int],
    pad: int,
    top_p: float = 1.0,
    top_k: int = 0,
    injection: Injection = no_injection,
) -> list[list[list[int]]]:
    """Return the tokens of each prompt's texts, without the one that ends it.

    Sampled tokens are among the ``top_k`` likeliest, and of these among the likeliest whose probability is ``top_p``.
    """
    from transformers import LogitsProcessorList, TopKLogitsWarper, TopPLogitsWarper

    filters = LogitsProcessorList()  # in the order of transformers
    filters += [TopKLogitsWarper(top_k)] if top_k else []
    filters += [TopPLogitsWarper(top_p)] if top_p < 1 else []
    by_length = sorted(range(len(prompts)), key=lambda index: len(prompts[index].token_ids))
    temperatures = (sampling.temperature, *[1.0] * sampling.samples)
    n_texts = len(temperatures)
    batch_size = max(1, BATCH_SIZE // n_texts)
    texts_of: dict[int, list[list[int]]] = {}
    for start in range(0, len(by_length), batch_size):
        batch = by_length[start : start + batch_size]
        cache = prefill(model, [prompts[index] for index in batch], pad, partial(injection, batch))
        if n_texts > 1:
            cache = cache.rows([row for row in range(len(batch)) for _ in range(n_texts)])
        generator = torch.Generator(cache.mask.device).manual_seed(sampling.seed + start)
        row_temperatures = torch.tensor(temperatures * len(batch), device=cache.mask.device)
        texts = _decode(model, cache, row_temperatures, generator, filters, ends, sampling.max_new_tokens)
        texts_of |= {index: texts[row * n_texts : (row + 1) * n_texts] for row, index in enumerate(batch)}
    return [texts_of[index] for index in range(len(prompts))]


def _decode(
    model: nn.Module,
    cache: PrefixCache,
    temperatures: Float[Tensor, " row"],
    generator: torch.Generator,
    filters: LogitsProcessorList,
    ends: Collection[int],
    max_new_tokens: int,
) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in temperatures]
    indices = list(range(len(texts)))  # of the text that each row of the cache belongs to
    unfinished = set(indices)
    for step in range(max_new_tokens):
        tokens = _choose(cache.logits, temperatures[indices], generator, filters)
        for index, token in zip(indices, tokens.tolist(), strict=True):
            if token in ends:
                unfinished.discard(index)
            elif index in unfinished:
                texts[index].append(token)
        if not unfinished or step == max_new_tokens - 1:
            break
        if len(unfinished) < MIN_UNFINISHED * len(indices):
            kept = [row for row, index in enumerate(indices) if index in unfinished]
            cache, tokens, indices = cache.rows(kept), tokens[kept], [indices[row] for row in kept]
        _, cache = cache.extend(model, tokens[:, None])
    return texts


def _choose(
    logits: Float[Tensor, "row vocab"],
    temperatures: Float[Tensor, " row"],
    generator: torch.Generator,
    filters: LogitsProcessorList,
) -> Int[Tensor, " row"]:
    tokens, is_sampled = logits.argmax(-1), temperatures > 0
    if bool(is_sampled.any()):
        probabilities = filters(None, logits[is_sampled].float() / temperatures[is_sampled, None]).softmax(-1)
        tokens[is_sampled] = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
    return tokens
