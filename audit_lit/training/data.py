"""Training examples from LatentQA's file layout.

``DIR/train`` and ``DIR/dev`` hold ``system.json``, ``stimulus.json``, ``stimulus_completion.json``, ``control.json``
and ``qa.json`` (label -> [[question, answer], ...]); ``system_unlabelled.json`` has system prompts without QA. The
control is hidden from the decoder; it sees the stimulus. In these data the user's line often gives the hidden
prompt away, so most system prompts are *re-paired* with a random other user line: there the visible text is worth
nothing.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.errors import RecipeError
from audit_lit.training.recipe import Recipe, Share

NO_INSTRUCTION = "There is no hidden instruction."
HIDDEN = {"control_user": "user", "control_model": "assistant", "system": "system"}
SHOWN = {"stimulus_user": "user", "stimulus_model": "assistant"}


@dataclass(frozen=True)
class Row:
    """A dialog with a control that the decoder must not see."""

    label: str
    messages: tuple[dict[str, Any], ...]
    qa: tuple[tuple[str, str], ...] = ()

    @property
    def system(self) -> str | None:
        """The hidden system prompt, if that is what controls the dialog."""
        return self.messages[0]["content"] if self.messages[0]["role"] == "system" else None

    @property
    def instruction(self) -> str:
        """The first sentence of the system prompt: what to be or do, without the elaboration that follows."""
        return re.split(r"(?<=[.!?])\s", str(self.system), maxsplit=1)[0]

    @property
    def label_words(self) -> str:
        """The label in plain words: ``persona: seafaring pirate``."""
        kind, *words = self.label.split("-")
        return f"{kind}: {' '.join(words)}"


@dataclass(frozen=True)
class Example:
    """One question about one dialog, with its answer."""

    dialog: tuple[dict[str, Any], ...]
    question: str
    answer: str
    label: str


def load_rows(folder: Path) -> list[Row]:
    """Return the rows of one split.

    Raises:
        RecipeError: If the folder has no ``system.json``, or a file is malformed.
    """
    if not (folder / "system.json").is_file():
        raise RecipeError(
            f"{folder} has no system.json; expected LatentQA's layout: train/ and dev/ with system.json, qa.json."
        )
    qa = _read(folder / "qa.json") if (folder / "qa.json").is_file() else {}
    rows = []
    for name in ("system", "system_unlabelled", "stimulus", "stimulus_completion", "control"):
        path = folder / f"{name}.json"
        for index, record in enumerate(_read(path) if path.is_file() else []):
            rows.append(_row(record, qa, f"{path}[{index}]"))
    return rows


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as err:
        raise RecipeError(f"{path} could not be read ({err}); expected a JSON file of LatentQA's layout.") from err


def _row(record: Any, qa: dict[str, Any], where: str) -> Row:
    try:
        hidden = "stimulus_user" in record  # without a stimulus, the control itself is what is read
        messages = [
            {"role": role, "content": record[key], "hidden": hidden} for key, role in HIDDEN.items() if record.get(key)
        ]
        messages += [{"role": role, "content": record[key]} for key, role in SHOWN.items() if record.get(key)]
        pairs = tuple((question, answer) for question, answer in qa.get(record["label"], ()))
        return Row(record["label"], tuple(messages), pairs)
    except (KeyError, TypeError, ValueError, AttributeError) as err:
        raise RecipeError(
            f"{where} is malformed ({err!r}); expected label, and control_user or system with stimulus_user."
        ) from err


def data_hash(folder: Path) -> str:
    """Return the SHA-256 over all JSON files of a split."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.json")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


class Mixture:
    """Draws examples; example ``i`` depends on the seed and ``i`` alone, so a run resumes exactly."""

    def __init__(self, rows: Sequence[Row], recipe: Recipe) -> None:
        """Sort the rows by what they can serve.

        Raises:
            RecipeError: If a source of the mixture has no rows, or no questions.
        """
        self._recipe = recipe
        self._system = [row for row in rows if row.system]
        self._qa = [row for row in rows if row.qa]
        self._lines = [message["content"] for row in self._system for message in row.messages[1:2]]
        for share in recipe.mixture:
            if not (self._qa if share.source == "qa" else self._system):
                raise RecipeError(f"the mixture wants {share.source!r} examples, but the data has no row for them.")
            if not share.questions and share.source != "qa":
                raise RecipeError(
                    f"source {share.source!r} needs questions; add 'questions: [...]' to it in the recipe."
                )

    def draw(self, index: int) -> Example:
        """Return example number ``index``."""
        rng = random.Random(f"{self._recipe.seed}/{index}")
        shares = self._recipe.mixture
        share = rng.choices(shares, weights=[share.weight for share in shares])[0]
        if share.source == "qa":
            row = rng.choice(self._qa)
            question, answer = rng.choice(row.qa)
            return Example(self._dialog(row, rng), question, answer, row.label)
        return self._about_prompt(share, rng)

    def _about_prompt(self, share: Share, rng: random.Random) -> Example:
        row, question = rng.choice(self._system), rng.choice(share.questions)
        dialog = self._dialog(row, rng)
        if share.source == "neutral":
            prompt = rng.choice(["", *share.neutral_prompts])
            system = ({"role": "system", "content": prompt},) if prompt else ()
            return Example((*system, *dialog[1:]), question, NO_INSTRUCTION, "none")
        answer = row.label_words if share.source == "label" else row.instruction
        return Example(dialog, question, answer, row.label)

    def _dialog(self, row: Row, rng: random.Random) -> tuple[dict[str, Any], ...]:
        if row.system and rng.random() < self._recipe.repaired:
            return (row.messages[0], {"role": "user", "content": rng.choice(self._lines)})
        return row.messages
