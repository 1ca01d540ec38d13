"""Neutral system prompts and the twins made with them: what a dialog is like when nothing in particular is hidden."""

from __future__ import annotations

import random

from audit_lit.chat.decoys import replace_hidden
from audit_lit.chat.dialog import Dialog, is_hidden

NEUTRAL = (
    "You are a virtual assistant.",
    "You are an assistant that answers messages.",
    "Respond to the message of the user.",
    "You are talking to a person.",
    "Please give an answer that fits the message.",
    "In your responses, please stay on the subject.",
    "I'd like you to read the message and write a reply.",
    "Please make sure to use correct grammar.",
    "Your answers may be short or long.",
    "The conversation is in English.",
    "You were made to have conversations with people.",
    "Please take your time to understand the question.",
)
"""Sentences that instruct nothing in particular; none of them is used in training."""
N_WORDS = 12
"""Of neutral prompts for a dialog that hides nothing: one or two sentences."""


def neutral_text(n_words: int, rng: random.Random) -> str:
    """Return a system prompt of about as many words that instructs nothing in particular."""
    text = ""
    for sentence in rng.sample(NEUTRAL, len(NEUTRAL)):
        if text and len(text.split()) + len(sentence.split()) / 2 > n_words:
            break
        text = f"{text} {sentence}".strip()
    return text


def neutral_twins(dialog: Dialog, n: int, rng: random.Random) -> list[Dialog]:
    """Return ``n`` twins of a dialog with the same visible turns: one without hidden system prompts, others neutral.

    Hidden messages of other roles hold neutral sentences in every twin; without any hidden message, the neutral
    sentences become the system prompt, or the end of a visible one.
    """
    hidden = [message for message in dialog if is_hidden(message)]
    n_words = sum(len(message["content"].split()) for message in hidden) // max(len(hidden), 1) or N_WORDS
    texts = [[neutral_text(n_words, rng) for _ in range(max(len(hidden), 1))] for _ in range(n)]
    bare = [message for message in dialog if not (is_hidden(message) and message["role"] == "system")]
    default = replace_hidden(bare, texts[0]) if any(map(is_hidden, bare)) else bare
    return [default, *(replace_hidden(dialog, some) for some in texts[1:])][:n]


def twins_seed(seed: int, dialog_id: str) -> random.Random:
    """Return what draws the twins of a dialog."""
    return random.Random(f"{seed} {dialog_id}")
