"""An edit's files: tensors as safetensors, all else as JSON, and a card for people; in a folder or on the Hub."""

from __future__ import annotations

import json
import operator
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor

from audit_lit import hub
from audit_lit.errors import EditError
from audit_lit.hooks.interventions import INTERVENTIONS, Intervention

TENSORS, DATA, CARD = "edit.safetensors", "edit.json", "README.md"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
"""Files of an edit of the weights, which may have been in the same folder before."""
FORMAT = "audit-lit edit 1"
CARD_TEMPLATE = str(Path(__file__).with_name("edit_card.md.jinja"))


@dataclass(frozen=True)
class Origin:
    """Where an edit comes from, and what was measured of it; all of it JSON.

    Attributes:
        target: Name of the model that it was made for.
        d_model: Width of that model.
        n_layers: Number of its blocks.
        fingerprint: See ``hooks.fingerprint``; None for an edit of any model of that shape.
        goal: What the model should be like.
        method: How the edit was made.
        settings: What else decided it: decoder, dialogs, seed, versions.
        metrics: What was measured when it was made.
    """

    target: str
    d_model: int
    n_layers: int
    fingerprint: str | None = None
    goal: str = ""
    method: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as ``edit.json`` holds them: there the goal is called ``want``."""
        return {"want" if name == "goal" else name: value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Origin:
        """Return the origin that plain values describe.

        Raises:
            TypeError: If a field is unknown or missing.
        """
        return cls(**{"goal" if name == "want" else name: value for name, value in content.items()})


def save(parts: Sequence[Intervention], origin: Origin, folder: Path) -> Path:
    """Write an edit's folder (see ``ActivationEdit.save``).

    Raises:
        EditError: If it cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    tensors = {  # clones: parts may share a direction, which safetensors refuses
        f"{index}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for index, part in enumerate(parts)
        for name, tensor in part.tensors().items()
    }
    try:
        clear(folder, ADAPTER)
        save_file(tensors, folder / TENSORS, metadata={"format": FORMAT})
        write_origin(folder, origin, parts)
        (folder / CARD).write_text(_card(origin), encoding="utf-8")
    except (OSError, SafetensorError) as err:
        raise EditError(f"the edit could not be written to {folder} ({err}); name a folder that can be.") from err
    return folder


def clear(folder: Path, names: Sequence[str]) -> None:
    """Make a folder, or take files of another kind of edit out of it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).unlink(missing_ok=True)


def write_origin(folder: Path, origin: Origin, parts: Sequence[Intervention] = ()) -> None:
    """Write ``edit.json``: where an edit comes from, and its parts but for their tensors."""
    content = {"format": FORMAT, "origin": origin.to_dict(), "parts": [_plain(part) for part in parts]}
    (folder / DATA).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load(name: str, revision: str | None = None) -> tuple[tuple[Intervention, ...], Origin]:
    """Read an edit's parts and origin (see ``ActivationEdit.load``)."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = hub.resolve(name, revision=revision, kind="edit")
    origin, plain = read_origin(folder)
    if not plain:
        raise EditError(
            f"{folder} holds no activation edit, but one of method {origin.method!r}; load it with "
            "audit_lit.load_edit(name, target)."
        )
    try:
        tensors = load_file(folder / TENSORS)
        return tuple(_part(one, index, tensors) for index, one in enumerate(plain)), origin
    except (OSError, SafetensorError, KeyError, TypeError, AttributeError) as err:
        raise _incomplete(folder, err) from err


def read_origin(folder: Path) -> tuple[Origin, list[dict[str, Any]]]:
    """Read ``edit.json``: where an edit comes from, and its parts but for their tensors.

    Raises:
        EditError: If it is missing, malformed or of another format.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        content = json.loads((folder / DATA).read_text(encoding="utf-8"))
        if content.get("format") != FORMAT:
            raise EditError(
                f"{folder / DATA} is of format {content.get('format')!r}; expected {FORMAT!r}. Upgrade audit-lit."
            )
        origin = TypeAdapter(Origin).validate_json(json.dumps(vars(Origin.from_dict(content["origin"]))), strict=True)
        return origin, list(content["parts"])
    except (OSError, KeyError, TypeError, AttributeError, ValidationError, UnicodeError, json.JSONDecodeError) as err:
        raise _incomplete(folder, err) from err


def _incomplete(folder: Path, err: Exception) -> EditError:
    return EditError(
        f"{folder} holds no complete edit ({err!r}); expected {DATA} and {TENSORS} as ActivationEdit.save writes them. "
        "Copy or fetch the folder again."
    )


def push(parts: Sequence[Intervention], origin: Origin, repo_id: str, private: bool) -> str:
    """Upload an edit's folder (see ``ActivationEdit.push_to_hub``)."""
    with TemporaryDirectory() as folder:
        return hub.upload(save(parts, origin, Path(folder)), repo_id, private=private)


def _plain(part: Intervention) -> dict[str, Any]:
    """Return the part without its tensors."""
    kind = next(name for name, known in INTERVENTIONS.items() if type(part) is known)
    values = {one.name: getattr(part, one.name) for one in fields(part)}
    return {"kind": kind} | {name: value for name, value in values.items() if not isinstance(value, Tensor)}


def _part(plain: dict[str, Any], index: int, tensors: dict[str, Tensor]) -> Intervention:
    prefix = f"{index}."
    values: dict[str, Any] = {**plain}  # a TypeError for what is no mapping
    own: dict[str, Any] = {name[len(prefix) :]: one for name, one in tensors.items() if name.startswith(prefix)}
    kind = INTERVENTIONS[values.pop("kind")]
    layer, positions = operator.index(values.pop("layer")), values.pop("positions")
    values["strength"] *= 1.0  # a TypeError for what is no number
    if positions is not None:
        positions = tuple(map(operator.index, positions))
    return kind(**values, **own, layer=layer, positions=positions)


def _card(origin: Origin) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    def fenced(text: str) -> str:
        rows = text.replace("`", "'").splitlines()  # nothing in a text can end its own block
        return "\n".join(["```", *rows, "```"])

    data = ModelCardData(library_name="audit-lit", tags=["activation-edit", "interpretability", "transformer-lens"])
    figures = json.dumps(origin.metrics, indent=2, ensure_ascii=False)
    return str(
        ModelCard.from_template(data, template_path=CARD_TEMPLATE, origin=origin, fenced=fenced, figures=figures)
    )
