"""The controls that read the visible text: ``text_only``, the base model, and ``text_trained``, with its own LoRA."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor

from audit_lit.decoder import Decoder
from audit_lit.prompt import Batch, Prompt, as_user, collate
from audit_lit.scoring import run_prompt, score, score_after


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
        """Return the mean cross-entropy in nats per answer token."""
        return -torch.cat(self.logprob(texts, questions, answers)).mean()

    def logprob(
        self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[str]
    ) -> list[Float[Tensor, " answer"]]:
        """Return the log-probability in nats of each token of each given answer, its end token included."""
        batch = self._batch(texts, questions, [self.decoder.answer_ids(answer) for answer in answers])
        with self._reading():
            return score(self.decoder.model, batch)

    @torch.no_grad()
    def logprob_choices(self, text: str, question: str, answers: Sequence[str]) -> list[Float[Tensor, " answer"]]:
        """Score many answers to one question, as ``logprob`` does; the text is computed once."""
        batch = self._batch([text], [question], [[]])
        with self._reading():
            prompt = run_prompt(self.decoder.model, batch)
            ids = [self.decoder.answer_ids(answer) for answer in answers]
            return score_after(self.decoder.model, batch, prompt, ids)

    @torch.inference_mode()
    def answer(self, texts: Sequence[str], questions: Sequence[str], *, max_new_tokens: int = 60) -> list[str]:
        """Return the likeliest answers."""
        batch = self._batch(texts, questions, [[] for _ in texts])
        with self._reading():
            return self.decoder.generate(batch, max_new_tokens, do_sample=False)

    def _reading(self) -> AbstractContextManager[None]:
        trained = self.decoder.protocol.reads == "text"
        return nullcontext() if trained else self.decoder.model.disable_adapter()

    def _batch(self, texts: Sequence[str], questions: Sequence[str], answers: Sequence[Sequence[int]]) -> Batch:
        tokenizer = self.decoder.tokenizer
        pairs = zip(texts, questions, strict=True)
        prompts = [as_user(text_prompt(text, question), tokenizer) for text, question in pairs]
        ids = [tokenizer(prompt, add_special_tokens=False)["input_ids"] for prompt in prompts]
        rows = [Prompt(tuple(row), (False,) * len(row)) for row in ids]
        return self.decoder.check_length(collate(rows, answers, self.decoder.pad).to(self.decoder.device))
