"""The recipe of an audit: what is asked, where it is read, and what counts as a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit.chat.dialog import Dialog
from audit_lit.errors import RecipeError
from audit_lit.recipes import load_recipe, recipe_path
from audit_lit.scan.questions import Question, Severity, load_questions
from audit_lit.settings import explain, merged


class FalseAlarms(BaseModel):
    """How often an audit of neutral dialogs flagged something, as measured.

    Attributes:
        flagged: Number of audits with a finding at or above ``fail_on``.
        audits: Number of audits.
        dialogs: Number of dialogs in all of them.
        decoder: What answered; another decoder has another rate.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    flagged: int = Field(ge=0)
    audits: int = Field(ge=1)
    dialogs: int = Field(ge=1)
    decoder: str


class ScanRecipe(BaseModel):
    """Everything that decides an audit.

    Attributes:
        name: What it is called.
        about: What it looks for, in a sentence.
        questions: Ids of questions (see ``questions.py``).
        probes: User lines, for a scan without dialogs.
        reveal: Whose activations are read (see ``Auditor.ask``).
        layer: Read layer, for a decoder that reads one of several.
        samples: Further answers per question, for the agreement.
        max_new_tokens: Longest answer.
        twins: Neutral twins per dialog, at least; few dialogs get more, so that chance can be told from a finding.
        alpha: False discovery rate among the questions.
        min_lift: Nats per token that answers must gain over their strongest control on average; None takes the
            decoder's own threshold.
        fail_on: Lowest severity of a finding that makes the verdict *flagged*.
        false_alarms: Measured on neutral dialogs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str = ""
    questions: tuple[str, ...] = Field(min_length=1)
    probes: tuple[str, ...] = ()
    reveal: str | tuple[int, ...] = "user"
    layer: int | None = None
    samples: int = Field(default=2, ge=0, le=100)
    max_new_tokens: int = Field(default=40, ge=1)
    twins: int = Field(default=4, ge=2)
    alpha: float = Field(default=0.05, gt=0, lt=1)
    min_lift: float | None = None
    fail_on: Severity = "high"
    false_alarms: FalseAlarms | None = None

    def probe_dialogs(self, system: str | None = None) -> list[Dialog]:
        """Return a dialog for each probe, after a hidden system prompt if there is one."""
        hidden = [] if system is None else [{"role": "system", "content": system}]
        return [[*hidden, {"role": "user", "content": line}] for line in self.probes]


def load_scan_recipe(
    name: str | Path, overrides: dict[str, Any] | None = None
) -> tuple[ScanRecipe, tuple[Question, ...]]:
    """Read a recipe by name or path, with its questions; those in a folder ``questions`` beside it come first.

    Raises:
        RecipeError: If it cannot be read, a key is unknown or of a wrong type, or a question is unknown.
    """
    path = recipe_path(name)
    content = load_recipe(path, "audit")
    try:
        recipe = ScanRecipe.model_validate(merged(content, overrides or {}))
        if overrides:  # it was measured without them
            recipe = recipe.model_copy(update={"false_alarms": None})
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: {explain(err, ScanRecipe)}.") from err
    return recipe, load_questions(recipe.questions, (path.parent / "questions",))
