"""Training examples from LatentQA's file layout.

``DIR/train`` and ``DIR/dev`` hold ``system.json``, ``stimulus.json``, ``stimulus_completion.json``, ``control.json``
and ``qa.json`` (label -> [[question, answer], ...]); ``system_unlabelled.json`` has system prompts without QA. The
control is hidden from the decoder; it sees the stimulus.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit.data.reword import first_sentence
from audit_lit.errors import DataError
from audit_lit.files.reading import read_json

Messages = tuple[dict[str, Any], ...]
MIN_ROWS = 4
"""Smallest number of rows that a decoder is measured on."""
FILES = ("system", "system_unlabelled", "stimulus", "stimulus_completion", "control")
HIDDEN = {"control_user": "user", "control_model": "assistant", "system": "system"}
SHOWN = {"stimulus_user": "user", "stimulus_model": "assistant"}
"""The role of each key of a record: the control, which is hidden, and the stimulus, which is shown."""


@dataclass(frozen=True)
class Row:
    """A dialog whose control is hidden, as the decoder must not see it, with questions about it and their answers."""

    label: str
    """Name of the control, such as ``persona-job-pirate``."""
    messages: Messages
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
    """One question about one dialog, with the answer that the decoder should give."""

    dialog: Messages
    question: str
    answer: str
    label: str
    """Label of the hidden prompt; ``none`` without one."""
    null: tuple[str, int] | None = None
    """Kind and seed of the null input (``controls.null_input``) in place of the dialog's activations, if not None."""
    last_of_text: bool = False
    """Whether the last token of the text is read alone."""
    organisms: tuple[tuple[str, float], ...] = ()
    """Ids of organisms whose differences are added to the activations, and the length of each."""


def load_rows(folder: Path) -> list[Row]:
    """Return the rows of one split."""
    if not (folder / "system.json").is_file():
        raise DataError(
            f"{folder} has no system.json; expected LatentQA's layout: train/ and dev/ with system.json, qa.json."
        )
    qa = read_json(folder / "qa.json", DataError) if (folder / "qa.json").is_file() else {}
    paths = [folder / f"{name}.json" for name in FILES]
    return [
        _row(record, qa, f"{path}[{index}]")
        for path in paths
        if path.is_file()
        for index, record in enumerate(read_json(path, DataError))
    ]


def held_out(text: str, one_in: int) -> bool:
    """Return whether a text belongs to the dev split: one in ``one_in`` does, the same ones on every machine."""
    return hashlib.sha256(text.encode()).digest()[0] % one_in == 0


def measurable(rows: Sequence[Row], where: object = "the data") -> list[Row]:
    """Return the rows with a hidden system prompt and a user line; raise if they are too few to measure a decoder."""
    with_prompt = [row for row in rows if row.system and len(row.messages) == 2]
    if len(with_prompt) < MIN_ROWS:
        raise DataError(
            f"{where} has {len(with_prompt)} hidden system prompts with a user line; expected {MIN_ROWS} or more. Name "
            "a folder that holds more of them."
        )
    return with_prompt


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
