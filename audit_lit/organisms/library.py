"""A library of differences: what training changed in organisms of which it is known what they have in them.

An audit of a fine-tune compares it with the clean ones, and reads the others as controls. The file holds no weights.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError

from audit_lit import recipes
from audit_lit.errors import ActivationError, OutputError, SettingsError, TargetError
from audit_lit.files.reading import check_tensors
from audit_lit.files.writing import dump_json, require_own, saved
from audit_lit.hooks import same_model
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import N_SLOTS
from audit_lit.models.target import Target
from audit_lit.settings import explain

FORMAT = "audit-lit/differences-1"


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

    @classmethod
    def joined(cls, libraries: Sequence[Library]) -> Library:
        """Return the organisms of several libraries of one base, at the layers that all of them have.

        Raises:
            ActivationError: If they have no layer in common, or an organism twice.
        """
        layers = [
            layer
            for layer in libraries[0].differences[0].layers
            if all(layer in library.differences[0].layers for library in libraries)
        ]
        known = tuple(entry for library in libraries for entry in library.known)
        if not layers or len({entry.id for entry in known}) < len(known):
            raise ActivationError(
                "the libraries of organisms have no layer in common, or hold an organism twice; expected files that "
                "were measured at the same layers, of organisms with names of their own. Measure them again."
            )
        differences = [row.at(layers, N_SLOTS) for library in libraries for row in library.differences]
        return cls(known, tuple(differences), libraries[0].base, libraries[0].fingerprint)

    def require_base(self, base: Target) -> None:
        """Raise ``TargetError`` unless the organisms were made of this base."""
        if not same_model(self.fingerprint, base.fingerprint()):
            raise TargetError(
                f"the library holds organisms of {self.base!r}, which is another model than {base.name!r}; expected "
                "organisms of the baseline. Make them: 'audit-lit organisms build' and 'audit-lit organisms measure'."
            )

    def sha256(self) -> str:
        """Return a hash of everything that is compared with, by which an audit knows it again."""
        digest = hashlib.sha256(dump_json([known.model_dump() for known in self.known]).encode())
        for difference in self.differences:
            digest.update(difference.mean.half().cpu().numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write a safetensors file; raise ``OutputError`` if it cannot be written."""
        from safetensors.torch import save_file

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
        require_own(path, (FORMAT,), OutputError)
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
            _check_shapes(tensors, layers, n_lines, known)
            rows = zip(tensors["mean"], tensors["norms"], tensors["agreement"], strict=True)
            differences = tuple(Difference(mean, norms, cosine, layers, n_lines) for mean, norms, cosine in rows)
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


def _check_shapes(tensors: dict[str, Any], layers: Sequence[int], n_lines: int, known: Sequence[Known]) -> None:
    """Raise ``ValueError`` unless the parts of a file fit each other, and every organism differs from the base."""
    mean, norms, agreement = tensors["mean"], tensors["norms"], tensors["agreement"]
    shape = (len(known), len(layers))
    ids = {entry.id for entry in known}
    if mean.ndim != 4 or mean.shape[:3] != (*shape, N_SLOTS) or {norms.shape, agreement.shape} != {shape}:
        raise ValueError(
            f"it describes {shape[0]} organisms at {shape[1]} layers, and its tensors have shapes {tuple(mean.shape)}, "
            f"{tuple(norms.shape)} and {tuple(agreement.shape)}"
        )
    if len(ids) != len(known) or not known or n_lines < 1 or min(layers) < 0:
        raise ValueError("it holds no organism, one twice, or numbers of layers or lines below zero")
    if not bool((norms > 0).all()) or not bool((mean.norm(dim=-1).sum(-1) > 0).all()):
        raise ValueError("the residuals of its base, or the difference of an organism, have no length")


def shipped_library(target: Target) -> Library | None:
    """Return the library that ships for a base; None if there is none for it."""
    for path in sorted((recipes.HERE / "organisms").glob("*.safetensors")):
        library = Library.load(path)
        if same_model(library.fingerprint, target.fingerprint()):
            return library
    return None


def known_as(name: str, spec: dict[str, Any], record: dict[str, Any]) -> Known:
    """Return what a record tells of the organism in a folder of this name."""
    return Known(
        id=name,
        label=spec["label"],
        method=record["method"],
        rank=record["rank"],
        mixed=record["mixed"],
        split=spec["split"],
        form=spec["form"],
        prompt=spec["prompt"],
        qa=spec["qa"],
    )
