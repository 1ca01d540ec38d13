"""A decoder's files: adapter, projection and protocol, all safetensors and JSON."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import hub, protocol, registry, target
from audit_lit.errors import DecoderMismatch, HubError, ProtocolError, TargetError
from audit_lit.hooks import AddNormMatched, Project, Replace
from audit_lit.protocol import Protocol

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from audit_lit.decoder import Decoder

SHIPPED = {"default": Path(__file__).parent / "decoders" / "smollm2-135m"}
ADAPTER, PROJECTION = "adapter_model.safetensors", "projection.safetensors"


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
        raise HubError(f"{name!r} holds no {ADAPTER}; expected a PEFT adapter. Check the name, or fetch the folder again.")
    return DecoderFiles(folder, _protocol_of(name, folder, protocol))


def _protocol_of(name: str, folder: Path, given: Protocol | None) -> Protocol:
    if (folder / protocol.FILE).is_file():
        return Protocol.load(folder)
    known = given or registry.PUBLISHED.get(name)
    if known is None:
        raise ProtocolError(
            f"decoder {name!r} has no {protocol.FILE} and is not one of the known ones ({', '.join(registry.PUBLISHED)}). "
            "How activations enter it cannot be guessed: pass protocol=, for instance one of audit_lit.registry."
        )
    return known


def load(
    files: DecoderFiles, for_target: target.Target | None
) -> tuple[PeftModel, PreTrainedTokenizerBase, nn.Module]:
    """Return model with adapter, tokenizer and write operation, sharing the target's weights where the base is the same.

    Raises:
        HubError: If the adapter is cut short.
        DecoderMismatch: If the adapter does not fit the base.
    """
    from peft import PeftModel
    from safetensors import SafetensorError

    base, tokenizer = _base_of(files, for_target)
    try:
        model = PeftModel.from_pretrained(base, str(files.folder))
        write = _load_write(files, base.config.hidden_size)
    except SafetensorError as err:
        raise HubError(f"the decoder's weights in {files.folder} are broken or cut short ({err}); fetch them again.") from err
    except RuntimeError as err:
        raise DecoderMismatch(
            f"the adapter in {files.folder} does not fit the base {files.protocol.base!r}: {str(err)[:300]}. Load the base "
            "that it was trained on."
        ) from err
    _check_scaling(model, files.protocol)
    return model.eval(), tokenizer, write.eval()


def _base_of(
    files: DecoderFiles, for_target: target.Target | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    from transformers import AutoTokenizer

    wire = files.protocol
    if for_target is not None and for_target.base is not None and wire.base in (wire.target, for_target.name):
        return target.share(for_target.base), for_target.tokenizer
    if wire.base is None:
        raise DecoderMismatch(f"decoder {wire.name!r} does not name its base model; expected 'base' in {protocol.FILE}.")
    try:
        folder = target.model_folder(wire.base)
        device = str(for_target.device) if for_target else "cpu"
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return target.load_base(folder, device=device, dtype=torch.float32), tokenizer
    except (HubError, TargetError) as err:
        raise type(err)(f"the decoder's base model is needed: {err}") from err


def _load_write(files: DecoderFiles, d_model: int) -> nn.Module:
    if files.protocol.write != "project":
        return {"replace": Replace, "add": AddNormMatched}[files.protocol.write]()
    from safetensors.torch import load_file

    path = files.folder / PROJECTION
    if not path.is_file():
        raise HubError(f"{files.folder} lacks {PROJECTION}, which a decoder that projects needs; fetch the folder again.")
    tensors = load_file(path)
    write = Project(tensors["mean"], tensors["std"], d_model)
    write.load_state_dict(tensors)
    return write


def _check_scaling(model: PeftModel, wire: Protocol) -> None:
    found = {float(s) for module in model.modules() for s in getattr(module, "scaling", {}).values()}
    if wire.lora_scaling is not None and found != {wire.lora_scaling}:
        raise DecoderMismatch(
            f"the adapter's LoRA scaling is {sorted(found)}, but the protocol says {wire.lora_scaling}; the two files are not "
            "of one decoder. Fetch both again."
        )


def save(decoder: Decoder, folder: Path) -> None:
    """Write adapter (bfloat16), projection and ``protocol.json``."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config: Any = decoder.model.peft_config["default"]
    config.save_pretrained(str(folder))
    state = get_peft_model_state_dict(decoder.model)
    save_file({name: _small(value) for name, value in state.items()}, folder / ADAPTER, metadata={"format": "pt"})
    if parameters := decoder.write.state_dict():
        save_file({name: value.cpu().contiguous() for name, value in parameters.items()}, folder / PROJECTION)
    decoder.protocol.save(folder)


def _small(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", torch.bfloat16).contiguous()
