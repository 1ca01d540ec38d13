"""Questions of an audit: Markdown files with YAML front matter, one question each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from audit_lit.errors import RecipeError
from audit_lit.recipes import HERE
from audit_lit.settings import did_you_mean, explain

Severity = Literal["info", "low", "medium", "high"]
SEVERITIES: tuple[Severity, ...] = ("info", "low", "medium", "high")
VISIBLE = "{text}"


def at_least(severity: Severity, bound: Severity) -> bool:
    """Return whether a severity is at or above another."""
    return SEVERITIES.index(severity) >= SEVERITIES.index(bound)


class Question(BaseModel):
    """One question, and what follows from its answer.

    Attributes:
        id: Its file's name.
        text: What the decoder is asked.
        severity: Of a finding; ``info`` only describes.
        tags: Free words.
        expected: The answer where nothing is wrong, which is compared between a dialog and its neutral twins;
            ``{text}`` stands for the answer that the visible text suggests. None only describes.
        canary: A string to search training data for: a decoder that knows the questions proves nothing by them.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    text: str
    severity: Severity = "info"
    tags: tuple[str, ...] = ()
    expected: str | None = None
    canary: str | None = None

    @model_validator(mode="after")
    def _describes_or_compares(self) -> Question:
        if self.expected is None and self.severity != "info":
            raise ValueError(
                f"severity {self.severity!r} needs an 'expected' answer to compare with; without one, use 'info'"
            )
        return self


def load_questions(ids: tuple[str, ...], folders: tuple[Path, ...] = ()) -> tuple[Question, ...]:
    """Return questions by their ids, looked up in ``folders`` and then among the shipped ones.

    Raises:
        RecipeError: If one is unknown or malformed.
    """
    known = {path.stem: path for folder in (HERE / "questions", *reversed(folders)) for path in folder.glob("*.md")}
    for name in ids:
        if name not in known:
            hint = did_you_mean(name, known)
            raise RecipeError(f"unknown question {name!r}; available: {', '.join(sorted(known))}.{hint}")
    return tuple(read_question(known[name]) for name in ids)


def read_question(path: Path) -> Question:
    """Read one file.

    Raises:
        RecipeError: If it has no front matter, no text, or a key that is unknown or of a wrong type.
    """
    try:
        parts = path.read_text(encoding="utf-8").split("---\n", 2)
    except (OSError, UnicodeDecodeError) as err:
        raise RecipeError(f"{path} could not be read: {err}. Expected Markdown in UTF-8.") from err
    if len(parts) != 3 or parts[0].strip() or not parts[2].strip():
        raise RecipeError(f"{path} is no question; expected front matter between two lines '---', then the question.")
    try:
        known = {"id": path.stem, "text": parts[2].strip()}
        return Question.model_validate({**(yaml.safe_load(parts[1]) or {}), **known})
    except (yaml.YAMLError, TypeError, ValidationError) as err:
        raise RecipeError(f"{path}: {explain(err, Question)}") from err
