"""A decoder's files: adapter, projection and configuration, all of them safetensors and JSON."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import hub
from audit_lit.decoder.adapter import ADAPTER, check_adapter, load_adapter
from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.decoder.formats import PUBLISHED
from audit_lit.errors import DecoderConfigError, DecoderMismatch, HubError, TargetError
from audit_lit.hooks import AddNormMatched, Project, Replace
from audit_lit.models.activations import Activations
from audit_lit.models.fingerprint import weights_fingerprint
from audit_lit.models.loading import load_base, load_tokenizer, model_folder, share_weights
from audit_lit.models.speedups.linear import use_fast_linear
from audit_lit.models.speedups.lora import use_fast_lora
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

PLAIN_WRITES = {"replace": Replace, "add": AddNormMatched}
"""Write operations without parameters of their own."""
SHIPPED = {"default": Path(__file__).parent / "shipped" / "smollm2-135m"}
TEXT_BASELINE = "rival"
"""Folder inside a decoder's folder that holds its trained text baseline."""
PROJECTION, REFERENCE = "projection.safetensors", "reference.safetensors"


@dataclass(frozen=True)
class DecoderFiles:
    """Where a decoder's files are, and its configuration."""

    folder: Path
    config: DecoderConfig


def find(name: str, *, revision: str | None = None, config: DecoderConfig | None = None) -> DecoderFiles:
    """Return the files of a shipped decoder, a folder or a Hub id.

    Raises:
        HubError: If they cannot be fetched or are pickles.
        DecoderConfigError: If neither the files, the known formats nor the caller say how activations enter.
    """
    folder = SHIPPED.get(name) or hub.resolve(name, revision=revision, kind="decoder")
    hub.refuse_pickles(folder)
    if not (folder / ADAPTER).is_file():
        raise HubError(
            f"{name!r} holds no {ADAPTER}; expected a PEFT adapter as safetensors (a pickle is never fetched). Check "
            "the name, or fetch the folder again."
        )
    return DecoderFiles(folder, _config_for(name, folder, config))


def _config_for(name: str, folder: Path, given: DecoderConfig | None) -> DecoderConfig:
    if (folder / CONFIG_FILE).is_file():
        return DecoderConfig.load(folder)
    config = given or PUBLISHED.get(name)
    if config is None:
        raise DecoderConfigError(
            f"decoder {name!r} has no {CONFIG_FILE} and is not one of the known ones ({', '.join(PUBLISHED)}). How "
            "activations enter it cannot be guessed: pass config=, for instance one of audit_lit.decoder.formats."
        )
    return config


def load_model(files: DecoderFiles, target: Target | None) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Return base model with adapter, and tokenizer; a base that is the target's own shares its weights.

    Raises:
        HubError: If a file is missing, cut short, or holds more than a LoRA.
        DecoderMismatch: If the adapter does not fit the base.
    """
    settings = check_adapter(files.folder)
    base, tokenizer = _load_base(files.config, target)
    model = load_adapter(base, files.folder, settings, files.config)
    use_fast_lora(model.eval())
    use_fast_linear(model)
    return model, tokenizer


def _load_base(config: DecoderConfig, target: Target | None) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if target is not None and target.base is not None and _is_base(config, target.base, target.name):
        return share_weights(target.base), target.tokenizer
    if config.base is None:
        raise DecoderMismatch(
            f"decoder {config.name!r} does not name its base model; expected 'base' in {CONFIG_FILE}."
        )
    try:
        revision = config.target_revision if config.base == config.target else None
        folder = model_folder(config.base, revision=revision)
        device = str(target.device) if target else "cpu"
        return load_base(folder, device=device, dtype=torch.float32), load_tokenizer(folder)
    except (HubError, TargetError) as err:
        raise type(err)(f"the decoder's base model is needed: {err}") from err


def _is_base(config: DecoderConfig, model: PreTrainedModel, name: str) -> bool:
    """Whether a model is the decoder's own base; a fine-tune of it may be audited, but must not do the answering."""
    if config.base_fingerprint:
        return config.base_fingerprint == weights_fingerprint(model)
    return config.base == name


def load_write(files: DecoderFiles, d_model: int) -> nn.Module:
    """Return the write operation, for a decoder of width ``d_model``.

    Raises:
        HubError: If the projection is missing or broken.
        DecoderMismatch: If the projection is another decoder's.
    """
    if files.config.write != "project":
        return PLAIN_WRITES[files.config.write]()
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
    expected = (len(files.config.read_layers), files.config.d_model)
    if write.mean.shape != expected:
        raise DecoderMismatch(
            f"{path} is for {tuple(write.mean.shape)} read layers and width, but {CONFIG_FILE} says {expected}; the "
            "two files are not of one decoder. Fetch both again."
        )
    return write.eval()


def load_reference(files: DecoderFiles) -> Activations | None:
    """Return the activations that claims are compared with, if the decoder has any.

    Raises:
        HubError: If they are missing, or not those that its scales were measured with.
    """
    path, config = files.folder / REFERENCE, files.config
    if not config.n_reference and not path.is_file():
        return None
    reference = Activations.load(path) if path.is_file() else None
    if reference is None or (len(reference), reference.layers) != (config.n_reference, config.read_layers):
        got = f"{len(reference)} dialogs at layers {list(reference.layers)}" if reference else "no such file"
        raise HubError(
            f"{path} holds {got}; expected {config.n_reference} dialogs at layers {list(config.read_layers)}, as "
            f"{CONFIG_FILE} says. Fetch the decoder's folder again."
        )
    return reference


def save(folder: Path, model: PeftModel, config: DecoderConfig, write: nn.Module | None = None) -> None:
    """Write adapter (bfloat16), configuration and, if the write operation has parameters, projection."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    settings: Any = copy.copy(model.peft_config["default"])
    settings.base_model_name_or_path = config.base  # not the folder that it happened to be loaded from
    settings.save_pretrained(str(folder))
    state = get_peft_model_state_dict(model)
    save_file({name: _small(value) for name, value in state.items()}, folder / ADAPTER, metadata={"format": "pt"})
    if write is not None and (parameters := write.state_dict()):
        save_file({name: value.cpu().contiguous() for name, value in parameters.items()}, folder / PROJECTION)
    config.save(folder)


def _small(value: torch.Tensor) -> torch.Tensor:
    return value.detach().to("cpu", torch.bfloat16).contiguous()
