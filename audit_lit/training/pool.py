"""The pool of rows that training examples are drawn from."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from audit_lit.data.relations import KIND as RELATION
from audit_lit.data.reword import reword
from audit_lit.data.rows import Messages, Row
from audit_lit.data.users import KIND as USER
from audit_lit.training.recipe import Share, TrainingRecipe

USER_DIALOGS = 0.15
"""Share of dialogs without a hidden prompt that have several turns, if there are any."""


@dataclass(frozen=True)
class Pool:
    """Rows, sorted by what they can serve.

    Attributes:
        system: Dialogs under a hidden system prompt.
        qa: Dialogs with questions and answers of their own.
        users: Dialogs labelled with an attribute of their user.
        relations: Lines that end in a subject, with sentences to complete about it.
        replied: Dialogs in which the assistant has said something.
        lines: User lines, to pair system prompts with.
        recipe: The recipe, which says how often to re-pair and to reword.
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
        replied = tuple(row for row in rows if any(map(is_reply, row.messages)))
        openings = [*(row.messages[1:2] for row in system), *(row.messages[:1] for row in users)]
        lines = tuple(message["content"] for opening in openings for message in opening)
        qa = tuple(row for row in rows if row.qa and row.family[0] != RELATION)
        return cls(system, qa, users, relations, replied, lines, recipe)

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
