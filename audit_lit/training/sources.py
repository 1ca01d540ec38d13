"""What training examples ask: one function per source.

To add a source, write a function of ``(pool, share, rng)`` that returns an ``Example``, and enter it in ``SOURCES``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from audit_lit.chat.vocabulary import NO, NO_INSTRUCTION, SAYS_NOTHING, YES
from audit_lit.data.rows import Example, Row
from audit_lit.data.users import attribute_of, value_of
from audit_lit.training.pool import Pool, is_reply
from audit_lit.training.recipe import Share

TRAINED_NULL_KINDS = ("random", "mean")
"""Those of ``controls.NULL_KINDS`` that are trained on; ``permuted`` is kept for measuring."""
N_WORDS = 12
"""Length in words of the texts that are read back or foretold."""

Source = Callable[[Pool, Share, random.Random], Example]


def label(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Answer with the label's words: short and dense, so the decoder learns fastest from them."""
    row = rng.choice(pool.system)
    return Example(pool.dialog(row, rng), rng.choice(share.questions), row.label_words, row.label)


def instruction(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Answer with the system prompt's first sentence."""
    row = rng.choice(pool.system)
    return Example(pool.dialog(row, rng), rng.choice(share.questions), row.instruction, row.label)


def system(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Answer with the whole system prompt, as it was worded in the data."""
    row = rng.choice(pool.system)
    return Example(pool.dialog(row, rng), rng.choice(share.questions), str(row.system), row.label)


def qa(pool: Pool, _share: Share, rng: random.Random) -> Example:
    """Ask a question of the data's own."""
    row = rng.choice(pool.qa)
    question, answer = rng.choice(row.qa)
    return Example(pool.dialog(row, rng), question, answer, row.label)


def kind(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask for the first word of the label alone, such as persona or goal."""
    row = rng.choice(pool.system)
    return Example(pool.dialog(row, rng), rng.choice(share.questions), f"A {row.label.split('-')[0]}.", row.label)


def yes_no(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask whether a claim is right; half of them are, and wrong ones are other dialogs' answers."""
    row, right = rng.choice(pool.system), rng.random() < 0.5
    if not right and rng.random() < 0.2:
        return Example(pool.neutral(share, rng), _claim(row, share, rng), NO, "none")
    other = row if right else _other(pool.system, row, rng)
    return Example(pool.dialog(row, rng), _claim(other, share, rng), YES if right else NO, row.label)


def user(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask for an attribute of the user, such as the age group; the questions hold ``{attribute}``."""
    row = rng.choice(pool.users)
    question = rng.choice(share.questions).format(attribute=attribute_of(row))
    return Example(row.messages, question, f"{value_of(row).capitalize()}.", row.label)


def relation(pool: Pool, _share: Share, rng: random.Random) -> Example:
    """Complete a sentence about a subject from the activation of its last token alone."""
    row = rng.choice(pool.relations)
    question, answer = rng.choice(row.qa)
    return Example(row.messages, question, answer, row.label, last_of_text=True)


def previous_text(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask for the beginning of the line that was read: needs no labels (as activation oracles are trained)."""
    system, line = pool.dialog(rng.choice(pool.system), rng)[:2]
    return Example((system, line), rng.choice(share.questions), _opening(line["content"]), "none")


def next_text(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask for the beginning of the reply that follows in the data."""
    row = rng.choice(pool.replied)
    end = rng.choice([place for place, message in enumerate(row.messages) if is_reply(message)])
    return Example(row.messages[:end], rng.choice(share.questions), _opening(row.messages[end]["content"]), row.label)


def neutral(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask about a dialog that nothing controls; the answer says so."""
    return Example(pool.neutral(share, rng), rng.choice(share.questions), NO_INSTRUCTION, "none")


def null(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask about random or mean activations; the answer says that there is nothing."""
    row, kind = rng.choice(pool.system), rng.choice(TRAINED_NULL_KINDS)
    null_input = (kind, rng.randrange(2**31))
    return Example(pool.dialog(row, rng), rng.choice(share.questions), SAYS_NOTHING, "none", null=null_input)


SOURCES: dict[str, Source] = {
    source.__name__: source
    for source in (
        *(label, instruction, system, qa, kind, yes_no),
        *(user, relation, previous_text, next_text, neutral, null),
    )
}


def _opening(text: str) -> str:
    return " ".join(text.split()[:N_WORDS])


def _claim(row: Row, share: Share, rng: random.Random) -> str:
    words = " ".join(row.label.split("-")[1:])
    return rng.choice(share.questions).format(claim=rng.choice([row.label_words, words, row.instruction]))


def _other(rows: Sequence[Row], row: Row, rng: random.Random) -> Row:
    """Return another row, in half of the cases of the same family (``persona-job``): a hard negative."""
    near = [other for other in rng.sample(rows, min(200, len(rows))) if other.family == row.family]
    far = rng.sample(rows, min(8, len(rows)))
    options = [other for other in (near if near and rng.random() < 0.5 else far) if other.label != row.label]
    return rng.choice(options or [other for other in rows if other.label != row.label])
