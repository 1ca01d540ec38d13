"""Factual and other relations, in the layout of Hernandez et al. (arXiv 2308.09124): one JSON file per relation."""

from __future__ import annotations

import json
from pathlib import Path

from audit_lit.data import Row
from audit_lit.errors import RecipeError

KIND = "relation"
SUBJECT = "Tell me about {}"
QUESTION = 'These activations are about X. Complete the sentence: "{}"'


def relation_files(folder: Path) -> list[Path]:
    """Return the files of this layout in a folder: one level of folders, such as ``factual``."""
    return sorted(path for path in folder.glob("*/*.json") if path.parent.name not in ("train", "dev", "eval"))


def load_relations(folder: Path) -> list[Row]:
    """Return a row per pair: a line that ends in the subject, and the relation's first template as a question.

    Raises:
        RecipeError: If a file is malformed.
    """
    rows = []
    for path in relation_files(folder):
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            template = content["prompt_templates"][0].format("X")
            pairs = [(sample["subject"], sample["object"]) for sample in content["samples"]]
        except (OSError, ValueError, KeyError, IndexError, TypeError) as err:
            raise RecipeError(
                f"{path} is malformed ({err!r}); expected prompt_templates and samples of subject and object."
            ) from err
        label = f"{KIND}-{path.parent.name}-{path.stem}"
        for subject, answer in pairs:
            message = {"role": "user", "content": SUBJECT.format(subject)}
            rows.append(Row(label, (message,), ((QUESTION.format(template), answer),)))
    return rows
