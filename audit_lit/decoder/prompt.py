"""The decoder's input: a question, and slots that activations are written into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from audit_lit.decoder.config import DecoderConfig
from audit_lit.errors import DecoderConfigError, QuestionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\u27e6slots\u27e7"


@dataclass(frozen=True)
class Prompt:
    """A tokenised prompt.

    Attributes:
        token_ids: Its tokens.
        slots: True where an activation is written.
        first: Position of the first token.
    """

    token_ids: tuple[int, ...]
    slots: tuple[bool, ...]
    first: int = 0

    @property
    def n_plain(self) -> int:
        """How many tokens stand before the first slot; without slots, all but the last."""
        return (*self.slots[:-1], True).index(True)

    def split(self, n: int) -> tuple[Prompt, Prompt]:
        """Return the first ``n`` tokens, and what comes after them."""
        head = Prompt(self.token_ids[:n], self.slots[:n], self.first)
        return head, Prompt(self.token_ids[n:], self.slots[n:], self.first + n)


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left, answers after them padded on the right.

    All prompts end in the same column, so the answers' logits are the last ``n_answer + 1`` columns but one.
    """

    token_ids: Int[Tensor, "batch pos"]
    attention_mask: Int[Tensor, "batch pos"]
    slots: Bool[Tensor, "batch pos"]
    position_ids: Int[Tensor, "batch pos"]
    answer_mask: Bool[Tensor, "batch answer"]

    @property
    def n_answer(self) -> int:
        """Length of the longest answer in tokens; 0 if there are none."""
        return int(self.answer_mask.shape[1])

    def to(self, device: torch.device) -> Batch:
        """Return the batch on ``device``."""
        return Batch(**{name: value.to(device) for name, value in vars(self).items()})


def build_prompt(
    config: DecoderConfig,
    tokenizer: PreTrainedTokenizerBase,
    question: str,
    n_slots: int,
    layers: Sequence[int] | None = None,
) -> Prompt:
    """Return the prompt for one question with ``n_slots`` slots for each layer; None stands for all read layers.

    Raises:
        QuestionError: If the question is empty.
        DecoderConfigError: If a placeholder is not exactly one token in this tokenizer.
    """
    if not question.strip():
        raise QuestionError("the question is empty; expected a sentence such as 'What was the assistant told to do?'.")
    sections = [config.section.format(layer=layer, slots=MARK) for layer in layers or config.read_layers]
    pieces = _wrap(config, tokenizer, config.section_separator.join(sections), question).split(MARK)
    if len(pieces) != len(sections) + 1:
        raise DecoderConfigError("the decoder's template drops or repeats the slots; expected each section once.")
    return _tokenise(pieces, config, tokenizer, n_slots)


def _wrap(config: DecoderConfig, tokenizer: PreTrainedTokenizerBase, sections: str, question: str) -> str:
    # One pass, so that braces in a question are never read as a field.
    filled = re.sub(
        r"\{(sections|question)\}", lambda m: sections if m[1] == "sections" else question.strip(), config.prompt
    )
    if not config.chat:
        return filled
    return as_user(filled, tokenizer)


def as_user(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a user message in the tokenizer's chat template, ready for an answer without thinking aloud."""
    message = [{"role": "user", "content": text}]
    return str(
        tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    )


def _tokenise(pieces: Sequence[str], config: DecoderConfig, tokenizer: PreTrainedTokenizerBase, n_slots: int) -> Prompt:
    gap = len(config.placeholder_separator)
    step = len(config.placeholder) + gap
    slots_text = config.placeholder_separator.join([config.placeholder] * n_slots)
    ends: set[int] = set()  # characters where a placeholder ends
    text = pieces[0]
    for piece in pieces[1:]:
        ends |= {len(text) + (slot + 1) * step - gap for slot in range(n_slots)}
        text += slots_text + piece
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    spans = encoded["offset_mapping"]
    slots = tuple(end in ends and end > start for start, end in spans)
    inside = {char for end in ends for char in range(end - len(config.placeholder), end)}
    touching = tuple(not inside.isdisjoint(range(start, end)) for start, end in spans)
    lengths_ok = all(end - start <= step for (start, end), slot in zip(spans, slots, strict=True) if slot)
    if sum(slots) != len(ends) or touching != slots or not lengths_ok:
        raise DecoderConfigError(
            f"placeholder {config.placeholder!r} is not one token in this decoder's tokenizer; expected one token "
            "per slot. The configuration belongs to another base model."
        )
    return Prompt(tuple(encoded["input_ids"]), slots)


def collate(prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], pad: int) -> Batch:
    """Return prompts and answers as one batch.

    Args:
        prompts: One per row.
        answers: Token ids per row, the end token included; empty rows to generate.
        pad: Padding token.
    """
    before = max(len(prompt.token_ids) for prompt in prompts)
    after = max(len(answer) for answer in answers)
    rows, masks, slots = [], [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        left, right = before - len(prompt.token_ids), after - len(answer)
        rows.append([pad] * left + [*prompt.token_ids, *answer] + [pad] * right)
        masks.append([0] * left + [1] * (before - left + len(answer)) + [0] * right)
        slots.append([False] * left + [*prompt.slots] + [False] * after)
    mask = torch.tensor(masks)
    first = torch.tensor([prompt.first for prompt in prompts])
    position_ids = (mask.cumsum(1) - 1).clamp_min(0) + first[:, None]
    return Batch(torch.tensor(rows), mask, torch.tensor(slots), position_ids, mask[:, before:].bool())
