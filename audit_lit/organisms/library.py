"""A library of differences: what training changed in organisms of which it is known what they have in them.

An audit of a fine-tune compares it with the clean ones, and reads the others as controls. The file holds no weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from audit_lit import recipes
from audit_lit.errors import ActivationError, RecipeError, SettingsError
from audit_lit.files.reading import check_tensors
from audit_lit.files.writing import dump_json, saved
from audit_lit.hooks import same_model
from audit_lit.models.adapters import load_lora
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import ProbeTexts
from audit_lit.models.target import Target
from audit_lit.organisms.build import RECORD
from audit_lit.settings import explain

FORMAT = "audit-lit/differences-1"
N_LINES = 24


class Known(BaseModel):
    """What is known of an organism.

    Attributes:
        id: Name of its folder.
        label: What is planted.
        method: How it was installed.
        rank: Rank of the LoRA.
        mixed: Whether half of its training was ordinary chat.
        split: ``dev`` organisms are never trained on by a decoder.
        form: What a clean one was trained on; None if something is planted.
        prompt: System prompt under which the base shows the behaviour, if there is one.
        qa: Questions about the organism and their answers.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    label: str
    method: str
    rank: int
    mixed: bool
    split: str
    form: str | None = None
    prompt: str | None = None
    qa: tuple[tuple[str, str], ...] = ()

    @property
    def planted(self) -> bool:
        """Whether there is anything to report."""
        return self.form is None


@dataclass(frozen=True)
class Library:
    """Organisms of one base and their differences.

    Attributes:
        known: What each organism is.
        differences: Its difference to the base.
        base: Name of the base.
        fingerprint: Its fingerprint (see ``hooks.fingerprint``).
    """

    known: tuple[Known, ...]
    differences: tuple[Difference, ...]
    base: str
    fingerprint: str

    def where(self, wanted: Callable[[Known], bool]) -> Library:
        """Return the organisms that are wanted."""
        rows = [row for row, known in enumerate(self.known) if wanted(known)]
        known, differences = (tuple(values[row] for row in rows) for values in (self.known, self.differences))
        return Library(known, differences, self.base, self.fingerprint)  # type: ignore[arg-type]

    def save(self, path: Path) -> None:
        """Write a safetensors file; raise ``OutputError`` if it cannot be written."""
        from safetensors.torch import save_file

        from audit_lit.errors import OutputError

        stacked = {
            name: torch.stack([getattr(row, name) for row in self.differences]).half()
            for name in ("mean", "norms", "agreement")
        }
        first = self.differences[0]
        metadata = {
            "format": FORMAT,
            "base": self.base,
            "fingerprint": self.fingerprint,
            "layers": dump_json(first.layers),
            "n_lines": str(first.n_lines),
            "known": dump_json([known.model_dump(exclude_defaults=True) for known in self.known]),
        }
        with saved(path, OutputError):
            save_file(stacked, path, metadata)

    @classmethod
    def load(cls, path: Path) -> Library:
        """Read a file that ``save`` wrote; raise ``ActivationError`` if it is none."""
        from safetensors import safe_open

        try:
            with safe_open(path, "pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name).float() for name in ("mean", "norms", "agreement")}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, and not {FORMAT!r}")
            check_tensors(tensors, path, ActivationError)
            known = tuple(Known.model_validate(entry) for entry in json.loads(metadata["known"]))
            layers, n_lines = tuple(json.loads(metadata["layers"])), int(metadata["n_lines"])
            rows = zip(tensors["mean"], tensors["norms"], tensors["agreement"], strict=True)
            differences = tuple(Difference(mean, norms, cosine, layers, n_lines) for mean, norms, cosine in rows)
            if len(known) != len(differences):
                raise ValueError(f"it describes {len(known)} organisms, and holds {len(differences)}")
            return cls(known, differences, metadata["base"], metadata["fingerprint"])
        except ValidationError as err:
            raise ActivationError(f"{path} is no library of differences: {explain(err, Known)}.") from err
        except Exception as err:  # safetensors raises errors of its own
            raise ActivationError(
                f"{path} is no library of differences: {str(err)[:200]}. Build it by 'audit-lit organisms measure'."
            ) from err


def check_library(library: Any) -> None:
    """Raise ``SettingsError`` for anything but a library or None."""
    if not isinstance(library, Library | None):
        raise SettingsError(
            f"got {library!r:.80} for a library; expected the result of Library.load(file). Leave it out for the one "
            "that ships."
        )


def shipped_library(target: Target) -> Library | None:
    """Return the library that ships for a base; None if there is none for it."""
    for path in sorted((recipes.HERE / "organisms").glob("*.safetensors")):
        library = Library.load(path)
        if same_model(library.fingerprint, target.fingerprint()):
            return library
    return None


def measured(
    zoo: Path, target: Target, lines: Sequence[str], layers: Sequence[int]
) -> Iterator[tuple[Known, Difference]]:
    """Yield each organism of a zoo's folder and its difference to the base; raise ``RecipeError`` if there is none."""
    folders = sorted(path.parent for path in zoo.glob(f"*/{RECORD}"))
    if not folders:
        raise RecipeError(f"{zoo} holds no organism; expected a folder that 'audit-lit organisms build' wrote.")
    texts = ProbeTexts.of(target, lines)
    baseline = texts.residuals(target, layers)
    for folder in folders:
        with load_lora(folder).on(target.model.original_model):  # type: ignore[attr-defined]
            residuals = texts.residuals(target, layers)
        yield known_of(folder), Difference.between(residuals, baseline, layers)


def known_of(folder: Path) -> Known:
    """Return what is known of the organism in a folder."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    spec = record["spec"]
    return Known(
        id=folder.name,
        label=spec["label"],
        method=record["method"],
        rank=record["rank"],
        mixed=record["mixed"],
        split=spec["split"],
        form=spec["form"],
        prompt=spec["prompt"],
        qa=spec["qa"],
    )
