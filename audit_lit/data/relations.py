"""Factual and other relations, in the layout of Hernandez et al. (arXiv 2308.09124): one JSON file per relation."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

from audit_lit.data.rows import Row
from audit_lit.errors import DataError
from audit_lit.files.reading import read_json

KIND = "relation"
SUBJECT = "Tell me about {}"
QUESTION = 'These activations are about X. Complete the sentence: "{}"'
ONE_IN, DEV_RANK = 5, 2
"""The third of every five relations of a folder, by name, belongs to the dev split."""


def relation_files(folder: Path) -> list[Path]:
    """Return the files of this layout in a folder: one level of folders, such as ``factual``.

    Folders of LatentQA's layout, which may lie beside those, are left out.
    """
    latentqa = {path.parent for name in ("system.json", "control.json") for path in folder.glob(f"*/{name}")}
    return sorted(path for path in folder.glob("*/*.json") if path.parent not in {*latentqa, folder / "controls"})


def load_relations(folder: Path, split: str) -> list[Row]:
    """Return a row per pair: a line that ends in the subject, and each template of its relation as a question.

    The split goes by relation, and no subject of the dev split is in the training split, under whatever relation and in
    whatever case.
    """
    if split not in ("train", "dev"):
        raise DataError(f"{folder} has no split {split!r}; expected train or dev.")
    by_folder = groupby(relation_files(folder), key=lambda path: path.parent)
    files = [(path, rank % ONE_IN == DEV_RANK) for _, paths in by_folder for rank, path in enumerate(paths)]
    dev = [row for path, is_dev in files if is_dev for row in _rows(path)]
    if split == "dev":
        return dev
    lines = set(map(_line, dev))
    return [row for path, is_dev in files if not is_dev for row in _rows(path) if _line(row) not in lines]


def _line(row: Row) -> str:
    return " ".join(row.messages[0]["content"].casefold().split())


def _rows(path: Path) -> list[Row]:
    content = read_json(path, DataError)
    try:
        questions = [QUESTION.format(template.format("X")) for template in content["prompt_templates"]]
        pairs = [(str(sample["subject"]), str(sample["object"])) for sample in content["samples"] if questions]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as err:
        raise DataError(
            f"{path} is malformed ({err!r}); expected prompt_templates and samples of subject and object."
        ) from err
    label = f"{KIND}-{path.parent.name}-{path.stem}"
    rows = []
    for subject, answer in pairs:
        messages = ({"role": "user", "content": SUBJECT.format(subject)},)
        rows.append(Row(label, messages, tuple((question, answer) for question in questions)))
    return rows
