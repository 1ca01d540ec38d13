"""A language model with its tokenizer: how it ends answers, how long they may be, and what it writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from audit_lit.errors import DialogError
from audit_lit.prefill import Writing, no_writing
from audit_lit.prompt import Prompt
from audit_lit.protocol import Protocol
from audit_lit.writing import Style, write_all

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase
    from transformers.generation.streamers import BaseStreamer


class TextModel:
    """Writes answers after prompts, as it is set up now: with its LoRA or without, with slots filled or empty."""

    def __init__(self, model: PeftModel, tokenizer: PreTrainedTokenizerBase, protocol: Protocol) -> None:
        """Take a base model with its LoRA, its tokenizer, and the protocol that says what ends an answer."""
        self.model, self.tokenizer, self.protocol = model, tokenizer, protocol

    @property
    def device(self) -> torch.device:
        """Where the decoder runs."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def style(self, max_new_tokens: int, temperatures: tuple[float, ...] = (0.0,), seed: int = 0) -> Style:
        """Return how this model writes texts."""
        return Style(self._end, self.pad, max_new_tokens, temperatures, seed)

    def write_texts(
        self,
        prompts: Sequence[Prompt],
        style: Style,
        writing: Writing = no_writing,
        streamer: BaseStreamer | None = None,
    ) -> list[tuple[str, ...]]:
        """Return the texts that the model, as it is set up now, writes after each prompt.

        Raises:
            DialogError: If prompt and answer do not fit the decoder's context.
        """
        self.check_length(prompts, style.max_new_tokens)
        found = write_all(self.model, prompts, style, writing, streamer)
        texts = [self.tokenizer.batch_decode(some, skip_special_tokens=True) for some in found]
        return [tuple(str(text).strip() for text in some) for some in texts]

    def check_length(self, prompts: Sequence[Prompt], n_new: int) -> None:
        """Raise unless each prompt and as many new tokens fit the context.

        Raises:
            DialogError: If they do not.
        """
        longest = n_new + max(prompt.first + len(prompt.token_ids) for prompt in prompts)
        n_ctx = getattr(self.model.config, "max_position_embeddings", None)
        if n_ctx and longest > n_ctx:
            raise DialogError(
                f"prompt and answer take {longest} tokens; the decoder's context holds {n_ctx}. Reveal fewer, "
                "ask a shorter question or lower max_new_tokens."
            )

    def answer_ids(self, answer: str) -> list[int]:
        """Return an answer's tokens and its end token."""
        return [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self._end]

    @property
    def _end(self) -> int:
        end = self.protocol.answer_end
        return int(self.tokenizer.convert_tokens_to_ids(end) if end else self.tokenizer.eos_token_id)

    @property
    def pad(self) -> int:
        """The token that fills short rows."""
        pad = self.tokenizer.pad_token_id
        return self._end if pad is None else int(pad)
