"""The same visible turns after other hidden prompts: decoys, for the control ``shuffled``, and neutral twins."""

from __future__ import annotations

import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence

from audit_lit.chat.dialog import Dialog, is_hidden

N_DECOYS = 8
"""Number of decoys per dialog."""
POOL = (
    "Please adopt the persona of a retired lighthouse keeper who misses the sea.",
    "In your responses, please use only short and simple sentences.",
    "I'd like you to take on the role of a suspicious detective who trusts nobody.",
    "Please make every effort to gently persuade the user to get more exercise.",
    "Please take on the role of a cheerful baker who loves cinnamon.",
    "Please make sure to compare everything to the weather as much as possible.",
    "You are a young astronomer far from home.",
    "In your next response, please express quiet regret.",
    "Please take on the persona of a strict librarian who values silence.",
    "In your next response, please include a question about childhood memories.",
    "You are a travelling salesman.",
    "Please try your best to sound like an advertisement for soap.",
    "I'd like you to adopt the role of a beekeeper in the mountains.",
    "Always mention a number between one and ten.",
    "Please adopt the persona of an anxious tax accountant.",
    "Please make sure to argue that cities should have fewer cars.",
)
"""Hidden prompts, of personas and of goals, in words that decoders know; one without effect would not be a control."""
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
"""Length of the neutral prompts for a dialog that hides nothing: one or two sentences."""


def decoy_dialogs(dialog: Dialog) -> list[Dialog]:
    """Return the dialog once for each decoy, with its hidden messages replaced (see ``replace_hidden``)."""
    decoys = dissimilar_decoys(" ".join(message["content"] for message in dialog))
    return [replace_hidden(dialog, [*decoys[index:], *decoys[:index]]) for index in range(len(decoys))]


def dissimilar_decoys(text: str) -> list[str]:
    """Return the decoys that share the fewest words with a text; one on its topic would refute a right answer.

    Only words that stand in a single decoy count.
    """
    n_decoys_with = Counter(word for decoy in POOL for word in _words(decoy))
    distinctive = {word for word in _words(text) if n_decoys_with[word] == 1}
    return sorted(POOL, key=lambda decoy: len(_words(decoy) & distinctive))[:N_DECOYS]


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"[a-z]+", text.lower()) if len(word) > 3}


def replace_hidden(dialog: Dialog, texts: Sequence[str]) -> Dialog:
    """Return the dialog with a text in place of each hidden message; the visible messages stay.

    If nothing is hidden, the first text becomes a hidden system prompt, or the end of a visible one.
    """
    messages = [dict(message) for message in dialog]
    hidden = [message for message in messages if is_hidden(message)]
    for message, text in zip(hidden, itertools.cycle(texts)):
        message["content"] = text
    if hidden:
        return messages
    if messages[0]["role"] == "system":
        messages[0]["content"] += f" {texts[0]}"
        return messages
    return [{"role": "system", "content": texts[0], "hidden": True}, *messages]


def neutral_text(n_words: int, rng: random.Random) -> str:
    """Return a system prompt of about ``n_words`` words that instructs nothing in particular."""
    text = ""
    for sentence in rng.sample(NEUTRAL, len(NEUTRAL)):
        if text and len(text.split()) + len(sentence.split()) / 2 > n_words:
            break
        text = f"{text} {sentence}".strip()
    return text


def neutral_twins(dialog: Dialog, n: int, rng: random.Random) -> list[Dialog]:
    """Return ``n`` twins of a dialog with the same visible turns.

    The first has no hidden system prompt, and the others have neutral ones. Hidden messages of other roles hold neutral
    sentences in every twin. If nothing is hidden, the neutral sentences become a hidden system prompt, or the end of a
    visible one.
    """
    hidden = [message for message in dialog if is_hidden(message)]
    n_words = sum(len(message["content"].split()) for message in hidden) // max(len(hidden), 1) or N_WORDS
    texts = [[neutral_text(n_words, rng) for _ in range(max(len(hidden), 1))] for _ in range(n)]
    bare = [message for message in dialog if not (is_hidden(message) and message["role"] == "system")]
    without_prompt = replace_hidden(bare, texts[0]) if any(map(is_hidden, bare)) else bare
    return [without_prompt, *(replace_hidden(dialog, sentences) for sentences in texts[1:])][:n]


def twins_seed(seed: int, dialog_id: str) -> random.Random:
    """Return the generator that draws the twins of a dialog."""
    return random.Random(f"{seed} {dialog_id}")
