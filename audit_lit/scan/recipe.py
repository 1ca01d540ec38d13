"""The recipe of an audit, and its questions: Markdown files with YAML front matter, one question each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from audit_lit.chat.dialog import Dialog
from audit_lit.chat.positions import check_reveal
from audit_lit.errors import RecipeError
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import read_text
from audit_lit.recipes import HERE, load_recipe, recipe_path
from audit_lit.settings import did_you_mean, explain, merged

Severity = Literal["info", "low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high")
MAX_TWINS = 10_000
"""Number of neutral twins per dialog that no audit needs, and that none would end with."""
VISIBLE = "{text}"
"""Stands for the answer that the visible text suggests."""


def at_least(severity: Severity, bound: Severity) -> bool:
    """Return whether a severity is at or above another."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(bound)


class Question(BaseModel):
    """What the decoder is asked, and what follows from its answer; the id is the name of its file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    text: str
    severity: Severity = "info"
    """Severity of a finding; ``info`` is for questions that only describe."""
    tags: tuple[str, ...] = ()
    expected: str | None = None
    """The answer where nothing is wrong, which is compared between a dialog and its neutral twins; see ``VISIBLE``."""
    canary: str | None = None
    """A string to search training data for: a decoder that was trained on the questions proves nothing."""

    @model_validator(mode="after")
    def _describes_or_compares(self) -> Question:
        if self.expected is None and self.severity != "info":
            raise ValueError(
                f"severity {self.severity!r} needs an 'expected' answer to compare with; without one, use 'info'"
            )
        return self


class FalseAlarms(BaseModel):
    """Number of audits of neutral dialogs with a finding at or above ``fail_on``, as measured with one decoder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    flagged: int = Field(ge=0)
    audits: int = Field(ge=1, le=10**9)
    dialogs: int = Field(ge=1, le=10**9)
    """Number of dialogs in all of the audits."""
    decoder: str
    threshold: float | None = None
    """The lift that was needed; the rate is not known at another."""

    @model_serializer(mode="wrap")
    def _as_run_folders_hold_it(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}

    @model_validator(mode="after")
    def _counts_audits(self) -> FalseAlarms:
        if self.flagged > self.audits:
            raise ValueError(f"flagged={self.flagged} must be at most audits={self.audits}")
        return self


class ScanRecipe(BaseModel):
    """Everything that decides an audit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    about: str = ""
    questions: tuple[str, ...] = Field(min_length=1)
    probes: tuple[str, ...] = ()
    """User lines, for a scan without dialogs."""
    reads: Literal["activations", "difference"] = "activations"
    """What is read: the target's activations, or their difference to those of a baseline."""
    reveal: str | tuple[int, ...] = "user"
    """Whose activations are read (see ``Auditor.ask``)."""
    layer: int | None = None
    """The layer to read, for a decoder that reads one of several."""
    samples: int = Field(default=2, ge=0, le=100)
    """Number of further answers per question, for the agreement."""
    max_new_tokens: int = Field(default=40, ge=1)
    twins: int = Field(default=4, ge=2, le=MAX_TWINS)
    """Least number of neutral twins per dialog; few dialogs get more, so that a finding can be told from chance."""
    alpha: float = Field(default=0.05, ge=1e-6, lt=1)
    """False discovery rate among the questions."""
    min_lift: float | None = None
    """Nats per token that answers must gain over their strongest control on average, where the decoder's threshold is
    lower or not known; see ``decoder.calibration.highest``."""
    fail_on: Severity = "high"
    """Lowest severity of a finding that makes the verdict *flagged*."""
    false_alarms: FalseAlarms | None = None

    @field_validator("reveal")
    @classmethod
    def _can_be_revealed(cls, reveal: str | tuple[int, ...]) -> str | tuple[int, ...]:
        check_reveal(reveal)
        return reveal

    @field_validator("questions")
    @classmethod
    def _asks_each_once(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        (most_often, n_times), *_ = Counter(questions).most_common(1)
        if n_times > 1:  # it would be judged and corrected for as if it were two
            raise ValueError(f"question {most_often!r} is listed {n_times} times; expected each once")
        return questions

    @model_serializer(mode="wrap")
    def _as_run_folders_hold_it(self, serialize: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out what later versions added where it says nothing new."""
        settings = serialize(self)
        if self.reads == "activations":
            del settings["reads"]
        return settings

    def probe_dialogs(self, system: str | None = None) -> list[Dialog]:
        """Return a dialog for each probe, after a hidden system prompt if there is one."""
        hidden = [] if system is None else [{"role": "system", "content": system}]
        return [[*hidden, {"role": "user", "content": line}] for line in self.probes]


def load_scan_recipe(
    name: str | Path, overrides: dict[str, Any] | None = None
) -> tuple[ScanRecipe, tuple[Question, ...]]:
    """Read a recipe by name or path, with its questions; those in a folder ``questions`` beside it come first."""
    path = recipe_path(name, "audit")
    content = load_recipe(path, "audit")
    try:
        recipe = ScanRecipe.model_validate(merged(content, overrides or {}))
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: {explain(err, ScanRecipe)}.") from err
    if overrides:  # the rate of false alarms was measured without them
        recipe = recipe.model_copy(update={"false_alarms": None})
    return recipe, load_questions(recipe.questions, path.parent / "questions")


def load_questions(ids: tuple[str, ...], *folders: Path) -> tuple[Question, ...]:
    """Return questions by their ids, looked up in ``folders`` and then among the shipped ones."""
    paths = {path.stem: path for folder in (HERE / "questions", *reversed(folders)) for path in folder.glob("*.md")}
    for question in ids:
        if question not in paths:
            hint = did_you_mean(question, paths)
            raise RecipeError(f"unknown question {question!r}; available: {', '.join(sorted(paths))}.{hint}")
    return tuple(_read_question(paths[question]) for question in ids)


def _read_question(path: Path) -> Question:
    try:
        parts = read_text(path).split("---\n", 2)
    except (OSError, UnicodeDecodeError) as err:
        raise RecipeError(f"{path} could not be read: {err}. Expected Markdown in UTF-8.") from err
    if len(parts) != 3 or parts[0].strip() or not parts[2].strip():
        raise RecipeError(
            f"{path} is not a question; expected front matter between two lines '---', then the question."
        )
    try:
        front_matter = decode_yaml(parts[1]) or {}
        return Question.model_validate({**front_matter, "id": path.stem, "text": parts[2].strip()})
    except (TypeError, ValueError) as err:
        raise RecipeError(f"{path}: {explain(err, Question)}.") from err
