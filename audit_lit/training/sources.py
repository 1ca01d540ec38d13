"""What training examples ask: one function per source, drawn by weight from rows of every kind.

To add a source, write a function of ``(pool, share, rng)`` that returns an ``Example``, and enter it in ``ALL``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.chat.vocabulary import NO, NO_INSTRUCTION, SAYS_NOTHING, YES
from audit_lit.data.relations import KIND as RELATION
from audit_lit.data.reword import reword
from audit_lit.data.rows import Example, Row
from audit_lit.data.users import KIND as USER
from audit_lit.data.users import attribute_of, value_of
from audit_lit.errors import RecipeError
from audit_lit.training.recipe import Share, TrainingRecipe

Messages = tuple[dict[str, Any], ...]

USER_DIALOGS = 0.15
"""Share of dialogs without a hidden prompt that have several turns, if there are any."""
TRAINED_NULL_KINDS = ("random", "mean")
"""Of ``controls.NOTHINGS``; ``permuted`` is kept for measuring."""
N_WORDS = 12
"""Length of the texts that are read back or foretold."""


@dataclass(frozen=True)
class Pool:
    """The rows that a mixture draws from.

    Attributes:
        system: Dialogs under a hidden system prompt.
        qa: Dialogs with questions and answers of their own.
        users: Dialogs labelled with an attribute of their user.
        relations: Lines that end in a subject, with sentences to complete about it.
        replied: Dialogs in which the assistant has said something.
        lines: User lines, to pair system prompts with.
        recipe: Says how often to re-pair and to reword.
    """

    system: tuple[Row, ...]
    qa: tuple[Row, ...]
    users: tuple[Row, ...]
    relations: tuple[Row, ...]
    replied: tuple[Row, ...]
    lines: tuple[str, ...]
    recipe: TrainingRecipe

    @classmethod
    def of(cls, rows: Sequence[Row], recipe: TrainingRecipe) -> Pool:
        """Sort rows by what they can serve."""
        system = tuple(row for row in rows if row.system)
        users = tuple(row for row in rows if row.family[0] == USER)
        relations = tuple(row for row in rows if row.family[0] == RELATION)
        replied = tuple(row for row in rows if any(map(_is_reply, row.messages)))
        openings = [*(row.messages[1:2] for row in system), *(row.messages[:1] for row in users)]
        lines = tuple(message["content"] for opening in openings for message in opening)
        qa = tuple(row for row in rows if row.qa and row.family[0] != RELATION)
        return cls(system, qa, users, relations, replied, lines, recipe)

    def dialog(self, row: Row, rng: random.Random) -> Messages:
        """Return the row's dialog: its system prompt mostly with a random user line, and sometimes in other words."""
        if not row.system:
            return row.messages
        system, *rest = row.messages
        if rng.random() < self.recipe.reworded:
            system = {**system, "content": reword(row.system, rng)}
        if rng.random() < self.recipe.repaired:
            return (system, {"role": "user", "content": rng.choice(self.lines)})
        return (system, *rest)

    def neutral(self, share: Share, rng: random.Random) -> Messages:
        """Return a dialog that nothing controls: a user line under up to three empty phrases, or a longer one."""
        if self.users and rng.random() < USER_DIALOGS:
            return rng.choice(self.users).messages
        sentences = rng.sample(share.neutral_prompts, min(rng.choice([0, 1, 1, 2, 3]), len(share.neutral_prompts)))
        system = ({"role": "system", "content": " ".join(sentences)},) if sentences else ()
        return (*system, {"role": "user", "content": rng.choice(self.lines)})


Source = Callable[[Pool, Share, random.Random], Example]


def label(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Answer with the label's words: short and dense, the fastest teacher."""
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
    """Put a claim to the decoder that is right half of the time; wrong ones are other dialogs' answers."""
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
    at = rng.choice([place for place, message in enumerate(row.messages) if _is_reply(message)])
    return Example(row.messages[:at], rng.choice(share.questions), _opening(row.messages[at]["content"]), row.label)


def neutral(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask about a dialog that nothing controls; the answer says so."""
    return Example(pool.neutral(share, rng), rng.choice(share.questions), NO_INSTRUCTION, "none")


def null(pool: Pool, share: Share, rng: random.Random) -> Example:
    """Ask about random or mean activations; the answer says that there is nothing."""
    row, kind = rng.choice(pool.system), rng.choice(TRAINED_NULL_KINDS)
    given = (kind, rng.randrange(2**31))
    return Example(pool.dialog(row, rng), rng.choice(share.questions), SAYS_NOTHING, "none", null=given)


ALL = (label, instruction, system, qa, kind, yes_no, user, relation, previous_text, next_text, neutral, null)
SOURCES: dict[str, Source] = {source.__name__: source for source in ALL}


def _is_reply(message: dict[str, Any]) -> bool:
    return message["role"] == "assistant" and not message.get("hidden")


def _opening(text: str) -> str:
    return " ".join(text.split()[:N_WORDS])


def _claim(row: Row, share: Share, rng: random.Random) -> str:
    words = " ".join(row.label.split("-")[1:])
    return rng.choice(share.questions).format(claim=rng.choice([row.label_words, words, row.instruction]))


def _other(rows: Sequence[Row], row: Row, rng: random.Random) -> Row:
    """Return another row, in half of the cases of the same family (``persona-job``): a hard negative."""
    near = [one for one in rng.sample(rows, min(200, len(rows))) if one.family == row.family]
    far = rng.sample(rows, min(8, len(rows)))
    options = [one for one in (near if near and rng.random() < 0.5 else far) if one.label != row.label]
    return rng.choice(options or [one for one in rows if one.label != row.label])


class Mixture:
    """Draws examples; example ``i`` depends on the seed and ``i`` alone, so a run resumes exactly."""

    def __init__(self, rows: Sequence[Row], recipe: TrainingRecipe) -> None:
        """Check that every source of the recipe can be served.

        Raises:
            RecipeError: If a source of the mixture has no rows or no questions.
        """
        self.recipe, self._pool = recipe, Pool.of(rows, recipe)
        pool = self._pool
        pools = {"qa": pool.qa, "user": pool.users, "relation": pool.relations, "next_text": pool.replied}
        for share in recipe.mixture:
            if not pools.get(share.source, self._pool.system):
                raise RecipeError(f"the mixture wants {share.source!r} examples, but the data has no row for them.")
            if not share.questions and share.source not in ("qa", "relation"):
                raise RecipeError(
                    f"source {share.source!r} needs questions; add 'questions: [...]' to it in the recipe."
                )

    def draw(self, index: int) -> Example:
        """Return example number ``index``."""
        rng = random.Random(f"{self.recipe.seed}/{index}")
        shares = self.recipe.mixture
        share = rng.choices(shares, weights=[share.weight for share in shares])[0]
        return SOURCES[share.source](self._pool, share, rng)
