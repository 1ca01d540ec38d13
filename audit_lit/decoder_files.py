"""A decoder's files: adapter, projection and protocol, all safetensors and JSON."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import hub, protocol, registry, target
from audit_lit.activations import Activations
from audit_lit.errors import DecoderMismatch, HubError, ProtocolError, TargetError
from audit_lit.hooks import AddNormMatched, Project, Replace
from audit_lit.lean_lora import make_lean
from audit_lit.linear import speed_up
from audit_lit.protocol import Protocol

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from audit_lit.decoder import Decoder

HARMLESS_INITS = (True, False, "gaussian", "orthogonal", "eva")  # others, such as PiSSA, rewrite the base's weights
PLAIN_WRITES = {"replace": Replace, "add": AddNormMatched}
"""Write operations without parameters of their own."""
SHIPPED = {"default": Path(__file__).parent / "decoders" / "smollm2-135m"}
RIVAL = "rival"
"""Folder in a decoder's own that holds the one trained to read text."""
ADAPTER, PROJECTION, REFERENCE = "adapter_model.safetensors", "projection.safetensors", "reference.safetensors"


@dataclass(frozen=True)
class DecoderFiles:
    """Where a decoder's files are, and its wire format."""

    folder: Path
    protocol: Protocol


def find(name: str, *, revision: str | None = None, protocol: Protocol | None = None) -> DecoderFiles:
    """Return the files of a shipped decoder, a folder or a Hub id.

    Raises:
        HubError: If they cannot be fetched or are pickles.
        ProtocolError: If neither the files, the registry nor the caller says how activations enter.
    """
    folder = SHIPPED.get(name) or hub.resolve(name, revision=revision, kind="decoder")
    hub.refuse_pickles(folder)
    if not (folder / ADAPTER).is_file():
        raise HubError(
            f"{name!r} holds no {ADAPTER}; expected a PEFT adapter as safetensors (a pickle is never fetched). Check "
            "the name, or fetch the folder again."
        )
    return DecoderFiles(folder, _protocol_of(name, folder, protocol))


def _protocol_of(name: str, folder: Path, given: Protocol | None) -> Protocol:
    if (folder / protocol.FILE).is_file():
        return Protocol.load(folder)
    known = given or registry.PUBLISHED.get(name)
    if known is None:
        raise ProtocolError(
            f"decoder {name!r} has no {protocol.FILE} and is not one of the known ones "
            f"({', '.join(registry.PUBLISHED)}). How activations enter it cannot be guessed: pass protocol=, for "
            "instance one of audit_lit.registry."
        )
    return known


def load(files: DecoderFiles, for_target: target.Target | None) -> tuple[PeftModel, PreTrainedTokenizerBase, nn.Module]:
    """Return model with adapter, tokenizer and write operation; a base that is the target's shares its weights.

    Raises:
        HubError: If a file is missing, cut short, or holds more than a LoRA.
        DecoderMismatch: If the adapter does not fit the base.
    """
    config = _read_config(files.folder)
    _check_tensors(files.folder)
    base, tokenizer = _base_of(files, for_target)
    write = _load_write(files, base.config.hidden_size)
    model = _load_adapter(files, base, config)
    _check_scaling(model, files.protocol)
    make_lean(model.eval())
    speed_up(model)
    return model, tokenizer, write.eval()


def _read_config(folder: Path) -> PeftConfig:
    from peft import PeftConfig

    try:
        config: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise HubError(
            f"adapter_config.json in {folder} is missing or broken ({err}); expected the settings of a PEFT adapter. "
            "Fetch the folder again."
        ) from err
    if config.peft_type != "LORA" or config.init_lora_weights not in HARMLESS_INITS:
        raise HubError(
            f"the adapter in {folder} is of type {config.peft_type.value}, initialised by "
            f"{getattr(config, 'init_lora_weights', None)!r}; expected a plain LoRA, which leaves the base model's "
            "weights alone. Convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return config


def _check_tensors(folder: Path) -> None:
    """Refuse an adapter with other tensors than a LoRA's: PEFT would write them into the target's own weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / ADAPTER, "pt") as file:
            other = sorted(name for name in file.keys() if ".lora_" not in name)  # noqa: SIM118
    except SafetensorError as err:
        raise HubError(f"{folder / ADAPTER} is broken or cut short ({err}); fetch the folder again.") from err
    if other:
        raise HubError(
            f"{folder / ADAPTER} holds {len(other)} tensors that are no LoRA, such as {other[0]!r}, which would change "
            "the base model; expected a plain LoRA. Ask the author for one without modules_to_save or embeddings."
        )


def _load_adapter(files: DecoderFiles, base: PreTrainedModel, config: PeftConfig) -> PeftModel:
    from peft import PeftModel

    folder = str(files.folder)
    try:
        model = PeftModel.from_pretrained(base, folder, config=config)
        report = model.load_adapter(folder, "default")  # once more, for the report that from_pretrained keeps
    except (RuntimeError, ValueError, KeyError, TypeError) as err:
        raise _misfit(files, err) from err
    if wrong := [*report.missing_keys, *report.unexpected_keys]:  # PEFT at most warns, and leaves them random
        raise _misfit(files, f"{len(wrong)} tensors are missing or have no place, such as {wrong[0]!r}")
    return model


def _misfit(files: DecoderFiles, reason: object) -> DecoderMismatch:
    return DecoderMismatch(
        f"the adapter in {files.folder} does not fit the base {files.protocol.base!r}: {str(reason)[:300]}. Load the "
        "base that it was trained on."
    )


def _base_of(files: DecoderFiles, for_target: target.Target | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    wire = files.protocol
    if for_target is not None and for_target.base is not None and _is_base(wire, for_target):
        return target.share(for_target.base), for_target.tokenizer
    if wire.base is None:
        raise DecoderMismatch(
            f"decoder {wire.name!r} does not name its base model; expected 'base' in {protocol.FILE}."
        )
    try:
        folder = target.model_folder(wire.base, revision=wire.target_revision if wire.base == wire.target else None)
        device = str(for_target.device) if for_target else "cpu"
        return target.load_base(folder, device=device, dtype=torch.float32), target.load_tokenizer(folder)
    except (HubError, TargetError) as err:
        raise type(err)(f"the decoder's base model is needed: {err}") from err


def _is_base(wire: Protocol, audited: target.Target) -> bool:
    """Whether the target is the decoder's own base; a fine-tune of it may be audited, but must not do the answering."""
    if wire.base_fingerprint and audited.base is not None:
        return wire.base_fingerprint == target.weights_fingerprint(audited.base)
    return wire.base == audited.name


def _load_write(files: DecoderFiles, d_model: int) -> nn.Module:
    if files.protocol.write != "project":
        return PLAIN_WRITES[files.protocol.write]()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = files.folder / PROJECTION
    if not path.is_file():
        raise HubError(
            f"{files.folder} lacks {PROJECTION}, which a decoder that projects needs; fetch the folder again."
        )
    try:
        tensors = load_file(path)
        write = Project(tensors["mean"], tensors["std"], d_model)
        write.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, ValueError, KeyError) as err:
        raise HubError(f"{path} is broken, cut short or of another decoder ({err!r}); fetch the folder again.") from err
    expected = (len(files.protocol.read_layers), files.protocol.d_model)
    if write.mean.shape != expected:
        raise DecoderMismatch(
            f"{path} is for {tuple(write.mean.shape)} read layers and width, but the protocol says {expected}; the two "
            "files are not of one decoder. Fetch both again."
        )
    return write


def _check_scaling(model: PeftModel, wire: Protocol) -> None:
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    found = {float(scaling) for layer in layers for scaling in layer.scaling.values()}
    if wire.lora_scaling is not None and found != {wire.lora_scaling}:
        raise DecoderMismatch(
            f"the adapter's LoRA scaling is {sorted(found)}, but the protocol says {wire.lora_scaling}; the two files "
            "are not of one decoder. Fetch both again."
        )


def load_reference(files: DecoderFiles) -> Activations | None:
    """Return the activations that claims are compared with, if the decoder has any.

    Raises:
        HubError: If they are missing, or others than its scales were measured with.
    """
    path, wire = files.folder / REFERENCE, files.protocol
    if not wire.n_reference and not path.is_file():
        return None
    found = Activations.load(path) if path.is_file() else None
    if found is None or (len(found), found.layers) != (wire.n_reference, wire.read_layers):
        got = f"{len(found)} dialogs at layers {list(found.layers)}" if found else "no such file"
        raise HubError(
            f"{path} holds {got}; expected {wire.n_reference} dialogs at layers {list(wire.read_layers)}, as "
            f"{protocol.FILE} says. Fetch the decoder's folder again."
        )
    return found


def save(decoder: Decoder, folder: Path) -> None:
    """Write adapter (bfloat16), projection and ``protocol.json``."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config: Any = copy.copy(decoder.model.peft_config["default"])
    config.base_model_name_or_path = decoder.protocol.base  # not the folder it happened to be loaded from
    config.save_pretrained(str(folder))
    state = get_peft_model_state_dict(decoder.model)
    save_file({name: _small(value) for name, value in state.items()}, folder / ADAPTER, metadata={"format": "pt"})
    if parameters := decoder.write.state_dict():
        save_file({name: value.cpu().contiguous() for name, value in parameters.items()}, folder / PROJECTION)
    decoder.protocol.save(folder)


def _small(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", torch.bfloat16).contiguous()
