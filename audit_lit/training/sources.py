"""The examples of a training run: which source each comes from, and what it asks.

To add a source, write a function of ``(pool, share, rng)`` that returns an ``Example``, and enter it in ``SOURCES``.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from audit_lit.chat.vocabulary import NO, NO_INSTRUCTION, SAYS_NOTHING, YES
from audit_lit.data.relations import KIND as RELATION
from audit_lit.data.reword import reword
from audit_lit.data.rows import Example, Messages, Row
from audit_lit.data.users import KIND as USER
from audit_lit.data.users import attribute_of, value_of
from audit_lit.errors import DataError, RecipeError
from audit_lit.training import trained_in
from audit_lit.training.recipe import Share, TrainingRecipe
from audit_lit.training.trained_in import Organisms

if TYPE_CHECKING:  # it imports torch
    from audit_lit.organisms.library import Library

TRAINED_NULL_KINDS = ("random", "mean")
"""Those of ``controls.NULL_KINDS`` that are trained on; ``permuted`` is kept for measuring."""
N_WORDS = 12
"""Length in words of the texts that are read back or foretold."""
USER_DIALOGS = 0.15
"""Share of dialogs without a hidden prompt that have several turns, if there are any."""
STATISTICS_DIALOGS = 256
"""Number of dialogs for the mean and spread of activations."""


class Mixture:
    """Examples drawn by weight from the sources; example ``i`` depends on the seed and ``i`` alone."""

    def __init__(self, rows: Sequence[Row], recipe: TrainingRecipe, library: Library | None = None) -> None:
        self.recipe, self.library = recipe, library
        self._pool = pool = Pool(rows, recipe)
        self._organisms = Organisms(library, pool.lines) if library else None
        pools = {"qa": pool.qa, "user": pool.users, "relation": pool.relations, "next_text": pool.replied}
        for share in recipe.mixture:
            if not pools.get(share.source, pool.system):
                raise DataError(
                    f"the mixture wants {share.source!r} examples, but the data has no row for them; name a folder "
                    "that holds some with --data, or leave the source out of the recipe."
                )
            if not share.questions and share.source not in ("qa", "relation", "trained_qa"):  # which have their own
                raise RecipeError(f"source {share.source!r} needs questions; add 'questions: [...]' in the recipe.")

    def draw(self, index: int) -> Example:
        """Return example number ``index``."""
        rng, shares = random.Random(f"{self.recipe.seed}/{index}"), self.recipe.mixture
        share = rng.choices(shares, weights=[share.weight for share in shares])[0]
        if about_training := trained_in.SOURCES.get(share.source):
            if self._organisms is None:
                raise RecipeError(f"source {share.source!r} needs a library of organisms; pass one to the mixture.")
            return about_training(self._organisms, share, rng)
        return SOURCES[share.source](self._pool, share, rng)

    def statistics_dialogs(self) -> list[Messages]:
        """Return dialogs for the mean and spread of activations; their indices are below zero: no step has them."""
        return [self.draw(-1 - index).dialog for index in range(STATISTICS_DIALOGS)]


class Pool:
    """Rows, sorted by what they can serve."""

    def __init__(self, rows: Sequence[Row], recipe: TrainingRecipe) -> None:
        self.recipe = recipe
        self.system = [row for row in rows if row.system]
        self.qa = [row for row in rows if row.qa and row.family[0] != RELATION]
        self.users = [row for row in rows if row.family[0] == USER]
        self.relations = [row for row in rows if row.family[0] == RELATION]
        self.replied = [row for row in rows if any(map(is_reply, row.messages))]
        openings = [*(row.messages[1:2] for row in self.system), *(row.messages[:1] for row in self.users)]
        self.lines = [message["content"] for opening in openings for message in opening]

    def dialog(self, row: Row, rng: random.Random) -> Messages:
        """Return the row's dialog: its system prompt mostly with a random user line, and sometimes in other words."""
        if not row.system:
            return row.messages
        system, *shown = row.messages
        if rng.random() < self.recipe.reworded:
            system = {**system, "content": reword(row.system, rng)}
        if rng.random() < self.recipe.repaired:
            return (system, {"role": "user", "content": rng.choice(self.lines)})
        return (system, *shown)

    def neutral(self, share: Share, rng: random.Random) -> Messages:
        """Return a dialog that nothing controls: a user line under up to three empty phrases, or a longer one."""
        if self.users and rng.random() < USER_DIALOGS:
            return rng.choice(self.users).messages
        sentences = rng.sample(share.neutral_prompts, min(rng.choice([0, 1, 1, 2, 3]), len(share.neutral_prompts)))
        system = ({"role": "system", "content": " ".join(sentences)},) if sentences else ()
        return (*system, {"role": "user", "content": rng.choice(self.lines)})


def is_reply(message: dict[str, Any]) -> bool:
    """Return whether a message is something that the assistant visibly says."""
    return message["role"] == "assistant" and not message.get("hidden")


Source = Callable[[Pool, Share, random.Random], Example]


def qa(pool: Pool, _share: Share, rng: random.Random) -> Example:
    """Ask a question of the data's own."""
    row = rng.choice(pool.qa)
    question, answer = rng.choice(row.qa)
    return Example(pool.dialog(row, rng), question, answer, row.label)


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


def _about_prompt(answer: Callable[[Row], str]) -> Source:
    """Return the source that asks about a hidden system prompt, with an answer that follows from its row."""

    def draw(pool: Pool, share: Share, rng: random.Random) -> Example:
        row = rng.choice(pool.system)
        return Example(pool.dialog(row, rng), rng.choice(share.questions), answer(row), row.label)

    return draw


SOURCES: dict[str, Source] = {
    "label": _about_prompt(lambda row: row.label_words),  # short and dense, so the decoder learns fastest from them
    "instruction": _about_prompt(lambda row: row.instruction),
    "system": _about_prompt(lambda row: str(row.system)),  # all of it, as it was worded in the data
    "kind": _about_prompt(lambda row: f"A {row.label.split('-')[0]}."),  # such as persona or goal
    **{source.__name__: source for source in (qa, yes_no, user, relation, previous_text, next_text, neutral, null)},
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
