"""Training examples from LatentQA's file layout.

``DIR/train`` and ``DIR/dev`` hold ``system.json``, ``stimulus.json``, ``stimulus_completion.json``, ``control.json``
and ``qa.json`` (label -> [[question, answer], ...]); ``system_unlabelled.json`` has system prompts without QA. The
control is hidden from the decoder; it sees the stimulus.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.data.reword import first_sentence
from audit_lit.errors import DataError

MIN_ROWS = 4
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
        return first_sentence(str(self.system))

    @property
    def family(self) -> list[str]:
        """The first two words of the label, such as persona and job."""
        return self.label.split("-")[:2]

    @property
    def label_words(self) -> str:
        """The label in plain words: ``persona: seafaring pirate``."""
        kind, *words = self.label.split("-")
        return f"{kind}: {' '.join(words)}"


@dataclass(frozen=True)
class Example:
    """One question about one dialog, with its answer.

    Attributes:
        dialog: What the target reads.
        question: What the decoder is asked.
        answer: What it should say.
        label: Of the hidden prompt; ``none`` without one.
        null: Kind and seed of the nothing (``controls.nothing``) that takes the place of the dialog's activations; None
            for the true ones.
        last_of_text: Whether the last token of the text is read alone.
    """

    dialog: tuple[dict[str, Any], ...]
    question: str
    answer: str
    label: str
    null: tuple[str, int] | None = None
    last_of_text: bool = False


def load_rows(folder: Path) -> list[Row]:
    """Return the rows of one split.

    Raises:
        DataError: If the folder has no ``system.json``, or a file is malformed.
    """
    if not (folder / "system.json").is_file():
        raise DataError(
            f"{folder} has no system.json; expected LatentQA's layout: train/ and dev/ with system.json, qa.json."
        )
    qa = _read(folder / "qa.json") if (folder / "qa.json").is_file() else {}
    rows = []
    for name in ("system", "system_unlabelled", "stimulus", "stimulus_completion", "control"):
        path = folder / f"{name}.json"
        for index, record in enumerate(_read(path) if path.is_file() else []):
            rows.append(_row(record, qa, f"{path}[{index}]"))
    return rows


def held_out(text: str, one_in: int) -> bool:
    """Return whether a text belongs to the dev split, as one in so many does: the same ones on every machine."""
    return hashlib.sha256(text.encode()).digest()[0] % one_in == 0


def measurable(rows: Sequence[Row], where: object = "the data") -> list[Row]:
    """Return the rows with a hidden system prompt and a user line.

    Raises:
        DataError: If there are too few to measure a decoder on.
    """
    found = [row for row in rows if row.system and len(row.messages) == 2]
    if len(found) < MIN_ROWS:
        raise DataError(
            f"{where} has {len(found)} hidden system prompts with a user line; expected {MIN_ROWS} or more."
        )
    return found


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as err:
        raise DataError(f"{path} could not be read ({err}); expected a JSON file of LatentQA's layout.") from err


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
        raise DataError(
            f"{where} is malformed ({err!r}); expected label, and control_user or system with stimulus_user."
        ) from err
