"""What the readers of published decoders' own descriptions share: strict fields, and the sizes that these leave out."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from audit_lit.decoder.wire_format import Count, Index
from audit_lit.errors import DecoderConfigError, HubError
from audit_lit.files.reading import read_json
from audit_lit.models.adapters import SETTINGS, WEIGHTS
from audit_lit.settings import explain

LAYER = re.compile(r"\.(?:layers|h|blocks)\.([0-9]{1,6})\..*\.lora_[AB]\.weight$")
READS_RESIDUAL = re.compile(r"\.(?:q_proj|k_proj|v_proj|qkv_proj|gate_proj|up_proj|gate_up_proj)\.lora_A\.weight$")
"""The LoRA matrices whose input has the width of the residual stream."""


class Sidecar(BaseModel):
    """The fields of a description that decide how it is read.

    Those that only tell of its training are named in ``describing`` and left out. Any other is refused, since it may
    change how activations enter the decoder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())
    describing: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _leave_out_describing(cls, content: Any) -> Any:
        if not isinstance(content, dict):
            return content
        return {name: value for name, value in content.items() if name in cls.model_fields or not cls.describes(name)}

    @classmethod
    def describes(cls, name: object) -> bool:
        """Return whether a field has no say in how activations enter the decoder."""
        return name in cls.describing


class Sizes(Sidecar):
    """The sizes in a model's ``config.json``, which says much else."""

    model_config = ConfigDict(extra="ignore")

    hidden_size: Count
    num_hidden_layers: Count


Fields = TypeVar("Fields", bound=Sidecar)
Item = TypeVar("Item")


def _each_once(values: tuple[Item, ...]) -> tuple[Item, ...]:
    if len(set(values)) < len(values):
        raise ValueError(f"expected each once, got {values!r:.80}")
    return values


EachOnce = AfterValidator(_each_once)
Layers = Annotated[tuple[Index, ...], Field(min_length=1), EachOnce]


def checked(kind: type[Fields], content: Any, path: Path) -> Fields:
    """Return the fields of a description.

    Raises:
        DecoderConfigError: If one is missing, of a wrong type, or not among the known values.
    """
    try:
        return kind.model_validate(content)
    except ValueError as err:
        raise unreadable(path, explain(err)) from err


def unreadable(path: Path, problem: str) -> DecoderConfigError:
    """Return the error about a description that this version cannot follow."""
    return DecoderConfigError(
        f"{path}: {problem}. This version cannot tell how activations enter the decoder; upgrade audit-lit, or write "
        "a protocol.json for it (--protocol FILE, or config= in Python)."
    )


def check_schema(version: int, newest: int, path: Path) -> None:
    """Raise ``DecoderConfigError`` if a description is of a newer schema."""
    if not 1 <= version <= newest:
        raise unreadable(path, f"schema_version is {version}; expected at most {newest}")


def base_name(folder: Path) -> str | None:
    """Return the base model that an adapter's own settings name."""
    settings = read_json(folder / SETTINGS, HubError)
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    return name if isinstance(name, str) and name else None


def model_sizes(folder: Path) -> tuple[int, int]:
    """Return width and number of blocks of the model that a decoder is, or that its LoRA is for.

    Raises:
        DecoderConfigError: If the files do not tell.
    """
    path = folder / "config.json"
    if (folder / SETTINGS).is_file() or not path.is_file():
        return _adapter_sizes(folder / WEIGHTS)
    content = read_json(path, HubError)
    text = content.get("text_config", content) if isinstance(content, dict) else {}
    sizes = checked(Sizes, text, path)
    return sizes.hidden_size, sizes.num_hidden_layers


def _adapter_sizes(path: Path) -> tuple[int, int]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            names = list(file.keys())
            widths = {tuple(file.get_slice(name).get_shape()[1:]) for name in names if READS_RESIDUAL.search(name)}
    except (SafetensorError, OSError) as err:
        raise HubError(f"{path} is broken or cut short ({err}); fetch the folder again.") from err
    layers = [int(match[1]) for name in names if (match := LAYER.search(name))]
    sizes = [size for width in widths for size in width]
    if len(widths) != 1 or len(sizes) != 1 or not layers:
        raise unreadable(path, "its tensors do not tell the width and the number of blocks of the model")
    return sizes[0], max(layers) + 1
