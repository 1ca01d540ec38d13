"""The files of an edit: tensors as safetensors, all else as JSON, and a model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.files.documents import decode_json
from audit_lit.files.reading import read_text, require_regular
from audit_lit.files.writing import EDIT, dump_json, replacing, require_writable, saved, write_whole
from audit_lit.hooks.interventions import INTERVENTIONS, Intervention
from audit_lit.settings import explain

TENSORS, DATA, CARD = "edit.safetensors", EDIT, "README.md"
ADAPTER = ("adapter_model.safetensors", "adapter_config.json")
"""The files of an edit of the weights, as PEFT names them."""
FORMAT = "audit-lit edit 1"
CARD_TEMPLATE = str(Path(__file__).with_name("edit_card.md.jinja"))


@dataclass(frozen=True)
class Origin:
    """Where an edit comes from, and what was measured of it. All values can be written as JSON.

    Attributes:
        target: Name of the model that the edit was made for.
        d_model: Width of that model.
        n_layers: Number of its blocks.
        fingerprint: Its fingerprint (see ``hooks.fingerprint``); None for an edit of any model of that shape.
        goal: What the model should be like.
        method: How the edit was made.
        settings: What else decided the edit, such as its decoder, dialogs and seed (see ``edits.recipe.Provenance``).
        metrics: What was measured when the edit was made.
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
        """Return plain values as ``edit.json`` holds them, where the goal is called ``want``."""
        return {"want" if name == "goal" else name: value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Origin:
        """Return the origin that plain values describe.

        Raises:
            TypeError: If a field is unknown or missing.
        """
        return cls(**{"goal" if name == "want" else name: value for name, value in content.items()})


class Part(BaseModel):
    """An intervention without its tensors, as ``edit.json`` holds it."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["steer", "ablate", "lowrank"]
    layer: int
    strength: float
    positions: tuple[int, ...] | None
    n_prompt: int | None
    unit: float = 1.0
    """Of a ``Steer`` alone."""


def save(interventions: Sequence[Intervention], origin: Origin, folder: Path) -> Path:
    """Write the folder of an edit (see ``ActivationEdit.save``)."""
    from safetensors.torch import save_file

    tensors = {  # cloned, since safetensors refuses tensors that share memory
        f"{index}.{name}": tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for index, intervention in enumerate(interventions)
        for name, tensor in intervention.tensors().items()
    }
    with saved(folder, EditError):
        prepare_folder(folder, without=ADAPTER)
        write_data(folder, origin, interventions)
        with replacing(folder / TENSORS) as path:
            save_file(tensors, path, metadata={"format": FORMAT})
        write_whole(folder / CARD, _card(origin))
    return folder


def prepare_folder(folder: Path, without: Sequence[str]) -> None:
    """Make a folder, and delete the files that an edit of the other kind may have left in it.

    Raises:
        EditError: If the folder holds something other than an edit.
    """
    require_writable(folder, DATA, EditError)
    folder.mkdir(parents=True, exist_ok=True)
    for name in without:
        (folder / name).unlink(missing_ok=True)


def write_data(folder: Path, origin: Origin, interventions: Sequence[Intervention] = ()) -> None:
    """Write ``edit.json``: the origin of an edit, and its interventions without their tensors."""
    parts = [_without_tensors(intervention) for intervention in interventions]
    content = {"format": FORMAT, "origin": origin.to_dict(), "parts": parts}
    write_whole(folder / DATA, dump_json(content, indent=2) + "\n")


def read_data(folder: Path) -> tuple[Origin, list[dict[str, Any]]]:
    """Read ``edit.json``: the origin, and the interventions without their tensors; none for an edit of the weights."""
    try:
        content = decode_json(read_text(folder / DATA))
        if content.get("format") != FORMAT:
            raise EditError(
                f"{folder / DATA} is of format {content.get('format')!r}; expected {FORMAT!r}. Upgrade audit-lit."
            )
        origin = TypeAdapter(Origin).validate_json(dump_json(vars(Origin.from_dict(content["origin"]))), strict=True)
        parts = TypeAdapter(list[dict[str, Any]]).validate_python(content["parts"], strict=True)
        return origin, parts
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as err:
        raise _incomplete(folder, err) from err


def read_interventions(folder: Path, parts: Sequence[dict[str, Any]]) -> tuple[Intervention, ...]:
    """Return the interventions that ``read_data`` returned, with the tensors that the folder holds."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        require_regular(folder / TENSORS)
        tensors = load_file(folder / TENSORS)
        if exact := sorted(name for name, tensor in tensors.items() if not tensor.is_floating_point()):
            raise TypeError(f"the tensor {exact[0]!r} is of type {tensors[exact[0]].dtype}, and not of floats")
        interventions = tuple(_with_tensors(part, index, tensors) for index, part in enumerate(parts))
    except (OSError, SafetensorError, KeyError, TypeError, ValidationError, OverflowError, RuntimeError) as err:
        raise _incomplete(folder, err) from err
    if unused := sorted(name for name in tensors if name.partition(".")[0] not in map(str, range(len(parts)))):
        raise EditError(
            f"{folder / TENSORS} holds the tensor {unused[0]!r}, which no part of {DATA} names; fetch it again."
        )
    return interventions


def _incomplete(folder: Path, err: Exception) -> EditError:
    reason = explain(err, Part) if isinstance(err, ValidationError) else repr(err)
    return EditError(
        f"{folder} holds no complete edit ({reason}); expected {DATA} and {TENSORS} as ActivationEdit.save writes "
        "them. Copy or fetch the folder again."
    )


def _without_tensors(intervention: Intervention) -> dict[str, Any]:
    """Return an intervention as ``edit.json`` holds it."""
    kind = next(name for name, known in INTERVENTIONS.items() if type(intervention) is known)
    names = [field.name for field in fields(intervention) if field.name not in ("prompt", "padding")]  # tensors or None
    values = {name: getattr(intervention, name) for name in names}
    return {"kind": kind} | {name: value for name, value in values.items() if not isinstance(value, Tensor)}


def _with_tensors(part: dict[str, Any], index: int, tensors: dict[str, Tensor]) -> Intervention:
    """Return the intervention at an index of ``edit.json``; a fault is a KeyError, TypeError or ValidationError."""
    prefix = f"{index}."
    fitting: dict[str, Any] = {
        name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)
    }
    values = Part.model_validate_json(dump_json(part), strict=True).model_dump(exclude_unset=True)
    kind = INTERVENTIONS[values.pop("kind")]
    return kind(**values, **fitting)


def _card(origin: Origin) -> str:
    from huggingface_hub import ModelCard, ModelCardData

    def fenced(text: str) -> str:
        lines = text.replace("`", "'").splitlines()  # without backticks, no text can end its own block
        return "\n".join(["```", *lines, "```"])

    data = ModelCardData(library_name="audit-lit", tags=["activation-edit", "interpretability", "transformer-lens"])
    figures = dump_json(origin.metrics, indent=2)
    return str(
        ModelCard.from_template(data, template_path=CARD_TEMPLATE, origin=origin, fenced=fenced, figures=figures)
    )
