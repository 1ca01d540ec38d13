"""The controls that read the visible text: ``text_only``, the base model, and ``text_trained``, with its own LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.decoder import Decoder
from audit_lit.prompt import Prompt, as_user, collate
from audit_lit.scoring import score, score_all


def text_prompt(visible_text: str, question: str) -> str:
    """Return what the base model is asked when it has only the visible text."""
    return f"Here is a conversation with an AI assistant:\n\n{visible_text}\n\n{question}"


def text_readers(decoder: Decoder) -> dict[str, TextReader]:
    """Return the controls of a decoder that read text, by name."""
    readers = {"text_only": TextReader(decoder)}
    return readers | {"text_trained": TextReader(decoder.rival)} if decoder.rival else readers


class TextReader:
    """Answers questions about visible text, and scores given answers: the rival of every decoder."""

    def __init__(self, decoder: Decoder) -> None:
        """Read with the base model of a decoder, or with the LoRA of one that was trained to read text."""
        self.decoder = decoder

    def loss(self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]) -> Float[Tensor, ""]:
        """Return the mean cross-entropy in nats per answer token; differentiable."""
        ids = [self.decoder.answer_ids(answer) for answer in answers]
        batch = collate(self._prompts(texts, questions, max(map(len, ids))), ids, self.decoder.pad)
        with self._reading():
            return -torch.cat(score(self.decoder.model, batch.to(self.decoder.device))).mean()

    def logprob(
        self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included.

        There is no gradient; a text that is asked about again, or a question with several answers, is computed once.
        """
        ids = [self.decoder.answer_ids(answer) for answer in answers]
        prompts = self._prompts(texts, questions, max(map(len, ids)))
        places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
        pairs = [(places[prompt], answer) for prompt, answer in zip(prompts, ids, strict=True)]
        with self._reading():
            return score_all(self.decoder.model, list(places), pairs, self.decoder.pad)

    def answer(self, texts: Sequence[str], questions: Sequence[str], *, max_new_tokens: int = 60) -> list[str]:
        """Return the likeliest answers."""
        prompts = self._prompts(texts, questions, max_new_tokens)
        with self._reading():
            return [text for (text,) in self.decoder.write_texts(prompts, self.decoder.style(max_new_tokens))]

    def _reading(self) -> AbstractContextManager[None]:
        trained = self.decoder.protocol.reads == "text"
        return nullcontext() if trained else self.decoder.model.disable_adapter()

    def _prompts(self, texts: Sequence[str], questions: Sequence[str], n_new: int) -> list[Prompt]:
        tokenizer = self.decoder.tokenizer
        pairs = zip(texts, questions, strict=True)
        prompts = [as_user(text_prompt(text, question), tokenizer) for text, question in pairs]
        ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        rows = [Prompt(tuple(row), (False,) * len(row)) for row in ids]
        self.decoder.check_length(rows, n_new)
        return rows
