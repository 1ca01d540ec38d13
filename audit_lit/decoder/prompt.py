"""The decoder's input: a question, and slots that activations are written into."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.config import DecoderConfig
from audit_lit.errors import DecoderConfigError, QuestionError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "\u27e6slots\u27e7"


@dataclass(frozen=True)
class Prompt:
    """A tokenised prompt: its slots are true at each token that an activation is written at."""

    token_ids: tuple[int, ...]
    slots: tuple[bool, ...]
    first: int = 0
    """Position of the first token."""

    def split(self, n_head: int) -> tuple[Prompt, Prompt]:
        """Return the first ``n_head`` tokens and the others, each as a prompt."""
        head = Prompt(self.token_ids[:n_head], self.slots[:n_head], self.first)
        return head, Prompt(self.token_ids[n_head:], self.slots[n_head:], self.first + n_head)


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left, followed by answers padded on the right.

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
    """Return the prompt for one question, with a section of ``n_slots`` slots for each of the layers, or all read ones.

    Raises:
        QuestionError: If the question is empty, or the decoder takes none.
        DecoderConfigError: If a placeholder is not exactly one token in this tokenizer, or stands between others.
    """
    if not question.strip():
        raise QuestionError("the question is empty; expected a sentence such as 'What was the assistant told to do?'.")
    if not config.takes_question and question != DESCRIPTION_QUESTION:
        raise QuestionError(
            f"decoder {config.name!r} describes an activation and takes no question; got {question!r:.80}. Ask "
            f"{DESCRIPTION_QUESTION!r}, which stands for none (on the command line, leave the question out)."
        )
    sections = [config.section.format(layer=layer, slots=MARK) for layer in layers or config.read_layers]
    fields = {"sections": config.section_separator.join(sections), "question": question.strip()}
    # In one pass, so that braces in a question are never read as a field.
    text = re.sub(r"\{(sections|question)\}", lambda field: fields[field[1]], config.prompt)
    pieces = (as_user(text, tokenizer) if config.chat else text).split(MARK)
    if len(pieces) != len(sections) + 1:
        raise DecoderConfigError(
            "the chat template of the decoder's tokenizer drops or repeats the slots; expected each section once. Load "
            "the tokenizer of the base that the decoder was trained on, or set chat to false in its configuration."
        )
    return (_tokenise_pieces if config.split_at_slots else _tokenise)(pieces, config, tokenizer, n_slots)


def as_user(text: str, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return a user message in the tokenizer's chat template, with the header of the answer and without thinking."""
    settings = {"tokenize": False, "add_generation_prompt": True, "enable_thinking": False}
    try:
        return str(tokenizer.apply_chat_template([{"role": "user", "content": text}], **settings))
    except Exception as err:  # a template may raise anything
        raise DecoderConfigError(
            f"the chat template of the decoder's tokenizer does not render a user's message ({str(err)[:200]}); load "
            "the tokenizer of the base that the decoder was trained on."
        ) from err


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
    short_enough = all(end - start <= step for (start, end), slot in zip(spans, slots, strict=True) if slot)
    if sum(slots) != len(ends) or touching != slots or not short_enough:
        raise _no_token(config)
    _check_slot_tokens(encoded["input_ids"], slots, config)
    return Prompt(tuple(encoded["input_ids"]), slots)


def _tokenise_pieces(
    pieces: Sequence[str], config: DecoderConfig, tokenizer: PreTrainedTokenizerBase, n_slots: int
) -> Prompt:
    first, *others = (tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces)
    placeholder = tokenizer(config.placeholder, add_special_tokens=False)["input_ids"]
    if len(placeholder) != 1:
        raise _no_token(config)
    token_ids, slots = list(first), [False] * len(first)
    for piece in others:
        token_ids += placeholder * n_slots + piece
        slots += [True] * n_slots + [False] * len(piece)
    _check_slot_tokens(token_ids, slots, config)
    return Prompt(tuple(token_ids), tuple(slots))


def _no_token(config: DecoderConfig) -> DecoderConfigError:
    return DecoderConfigError(
        f"placeholder {config.placeholder!r} is not one token in this decoder's tokenizer; expected one token "
        "per slot. The configuration belongs to another base model: load that one, or correct the placeholder."
    )


def _check_slot_tokens(token_ids: Sequence[int], slots: Sequence[bool], config: DecoderConfig) -> None:
    """Raise unless each slot is the token that the decoder was trained with, between the same two others."""
    for index in (index for index, slot in enumerate(slots) if slot and config.slot_tokens):
        if (around := tuple(token_ids[index - 1 : index + 2])) != config.slot_tokens:
            raise DecoderConfigError(
                f"the slot and its neighbours are the tokens {list(around)} in this decoder's tokenizer; expected "
                f"{list(config.slot_tokens or ())}, as its configuration says. Load the base that it was trained on."
            )


def collate(prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], pad: int) -> Batch:
    """Return prompts and the token ids of their answers as one batch; answers are empty where text is generated."""
    n_prompt = max(len(prompt.token_ids) for prompt in prompts)
    n_answer = max(len(answer) for answer in answers)
    rows, masks, slots = [], [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        left, right = n_prompt - len(prompt.token_ids), n_answer - len(answer)
        rows.append([pad] * left + [*prompt.token_ids, *answer] + [pad] * right)
        masks.append([0] * left + [1] * (len(prompt.token_ids) + len(answer)) + [0] * right)
        slots.append([False] * left + [*prompt.slots] + [False] * n_answer)
    mask = torch.tensor(masks)
    first = torch.tensor([prompt.first for prompt in prompts])
    position_ids = (mask.cumsum(1) - 1).clamp_min(0) + first[:, None]
    return Batch(torch.tensor(rows), mask, torch.tensor(slots), position_ids, mask[:, n_prompt:].bool())
