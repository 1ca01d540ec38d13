"""Data folders of every known layout: LatentQA's hidden prompts, TalkTuner's users, relations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from audit_lit.data.relations import load_relations, relation_files
from audit_lit.data.rows import Row, load_rows
from audit_lit.data.users import SPLITS, load_users, user_files


def load_split(folders: Sequence[Path], split: str) -> list[Row]:
    """Return the rows of one split of all folders, in each of which several layouts may lie beside each other.

    LatentQA's layout has a folder per split; TalkTuner's files and relations are split here.
    """
    return [row for folder in folders for row in _load(folder, split)]


def has_split(folders: Sequence[Path], split: str) -> bool:
    """Return whether any of the folders has files of a split."""
    if any((folder / split).is_dir() for folder in folders):
        return True
    return split in SPLITS and any(user_files(folder) or relation_files(folder) for folder in folders)


def split_hash(folders: Sequence[Path], split: str) -> str:
    """Return the SHA-256 over the files of a split in all folders."""
    digests = [_hash(_files(folder, split)) for folder in folders]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def _load(folder: Path, split: str) -> list[Row]:
    users = load_users(folder, split) if user_files(folder) and split in SPLITS else []
    relations = load_relations(folder, split) if relation_files(folder) and split in SPLITS else []
    if (folder / split).is_dir():
        return [*load_rows(folder / split), *users, *relations]
    return [*users, *relations] or load_rows(folder / split)  # whose error says what is missing


def _files(folder: Path, split: str) -> list[Path]:
    return [*sorted((folder / split).glob("*.json")), *user_files(folder), *relation_files(folder)]


def _hash(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
