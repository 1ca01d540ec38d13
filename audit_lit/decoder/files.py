"""What a decoder's folder holds, loaded and saved: adapter, projection, reference and configuration."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from audit_lit.decoder.base import base_of, options_beside
from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.decoder.folders import ADAPTER, DecoderFiles, find, is_whole
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.decoder.wire_format import WireFormat
from audit_lit.errors import DecoderMismatch, HubError, OutputError, TrainingError
from audit_lit.files.reading import check_tensors
from audit_lit.files.writing import replacing, require_writable
from audit_lit.hooks import AddNormMatched, Embed, Project, Replace
from audit_lit.models.activations import Activations
from audit_lit.models.adapters import SETTINGS, put_on, read_settings
from audit_lit.models.loading import load_base, load_tokenizer
from audit_lit.models.speedups import use_fast_linear, use_fast_lora
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TEXT_BASELINE = "rival"
"""Folder inside a decoder's folder that holds its trained text baseline."""
PROJECTION, REFERENCE = "projection.safetensors", "reference.safetensors"
MAX_SCALING = 1e4
HARMLESS_INITS = (True, False, "gaussian", "orthogonal", "eva")
"""Initialisations of a LoRA that leave the base model alone; others, such as PiSSA, rewrite its weights."""


def load_model(
    files: DecoderFiles, target: Target | None, base: str | None = None, quantised_base: bool = False
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """Return the base model with its adapter, and the tokenizer; a base that is the target's shares its weights.

    A decoder that is a whole model is loaded as it is. ``base`` is the caller's name for the base, and
    ``quantised_base`` whether a quantised target will do.
    """
    if is_whole(files.folder):
        return _load_whole(files, target, base)
    settings = _read_settings(files.folder)
    copies = _check_tensors(files.folder / ADAPTER)
    plain, tokenizer = base_of(files.config, target, base, quantised_base)
    _check_copies(copies, plain, files)
    model = _load_adapter(plain, files, settings)
    use_fast_lora(model.eval())
    use_fast_linear(model)
    return model, tokenizer


def _load_whole(
    files: DecoderFiles, target: Target | None, base: str | None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    if base is not None:
        raise DecoderMismatch(
            f"decoder {files.config.name!r} is a whole model and has no base; got {base!r}. Leave the base out."
        )
    model = load_base(files.folder, options_beside(target))
    use_fast_linear(model)
    return model, load_tokenizer(files.folder)


def _read_settings(folder: Path) -> PeftConfig:
    try:
        settings = read_settings(folder)
    except Exception as err:  # PEFT raises errors of any kind about a broken file
        raise HubError(
            f"{SETTINGS} in {folder} is missing or broken ({err}); expected the settings of a PEFT adapter. "
            "Fetch the folder again."
        ) from err
    if settings.peft_type != "LORA" or settings.init_lora_weights not in HARMLESS_INITS:
        raise HubError(
            f"the adapter in {folder} is of type {settings.peft_type.value}, initialised by "
            f"{getattr(settings, 'init_lora_weights', None)!r}; expected a plain LoRA, which leaves the base model's "
            "weights alone. Convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return settings


def _check_tensors(path: Path) -> dict[str, Tensor]:
    """Return the weights of the base that an adapter repeats; PEFT saves those of embeddings and heads with a LoRA.

    Any other tensor that is not a LoRA's is refused: PEFT would write it into the target's own weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as err:
        raise HubError(f"{path} is broken or cut short ({err}); fetch the folder again.") from err
    check_tensors(tensors, path, HubError)
    if foreign := sorted(name for name in tensors if ".lora_" not in name and ".base_layer." not in name):
        raise HubError(
            f"{path} holds {len(foreign)} tensors that are not a LoRA's, such as {foreign[0]!r}. It would change the "
            "base model; expected a plain LoRA. Ask the author for one without modules_to_save or embeddings."
        )
    return {name: tensor for name, tensor in tensors.items() if ".lora_" not in name}


def _check_copies(copies: Mapping[str, Tensor], base: PreTrainedModel, files: DecoderFiles) -> None:
    """Raise unless the weights that an adapter repeats are the base's: loading them must change nothing."""
    weights = base.state_dict()
    for name, copied in copies.items():
        weight = weights.get(name.removeprefix("base_model.model.").replace(".base_layer.", "."))
        if weight is None or not torch.equal(copied.to(weight), weight):
            raise DecoderMismatch(
                f"the adapter in {files.folder} brings {name!r}, which is not the weight of the base "
                f"{files.config.base!r}; expected the same values. Load the base that it was trained on, or save the "
                "adapter again with PEFT's save_pretrained(save_embedding_layers=False), if that is the base's own."
            )


def _load_adapter(base: PreTrainedModel, files: DecoderFiles, settings: PeftConfig) -> PeftModel:
    from peft.tuners.lora import LoraLayer

    config = files.config
    try:
        model = put_on(base, files.folder, settings)
    except Exception as err:  # PEFT raises errors of any kind about settings that do not fit
        raise DecoderMismatch(
            f"the adapter in {files.folder} does not fit the base {config.base!r}: {str(err)[:300]}. Load the base "
            "that it was trained on."
        ) from err
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    scalings = {float(scaling) for layer in layers for scaling in layer.scaling.values()}
    if not all(0 < scaling <= MAX_SCALING for scaling in scalings):
        raise DecoderMismatch(
            f"the adapter's LoRA scaling is {sorted(scalings)}; expected one above 0, and of at most {MAX_SCALING:g}. "
            "Fetch the folder again."
        )
    expected = config.lora_scaling  # patterns of ranks and alphas give some modules another
    if expected is not None and not any(math.isclose(scaling, expected) for scaling in scalings):
        raise DecoderMismatch(
            f"the adapter's LoRA scaling is {sorted(scalings)}, but {files.origin} says {expected}; the two do not "
            "belong to the same decoder. Fetch or give both again."
        )
    return model


def plain_write(wire: WireFormat) -> nn.Module | None:
    """Return a write operation without parameters of its own; None for one that has some."""
    scaled = {"add": AddNormMatched, "embed": Embed}
    return scaled[wire.write](wire.gain) if wire.write in scaled else Replace() if wire.write == "replace" else None


def load_write(files: DecoderFiles, d_model: int) -> nn.Module:
    """Return the write operation, for a decoder of width ``d_model``."""
    if plain := plain_write(files.config):
        return plain
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = files.folder / PROJECTION
    if not path.is_file():
        raise HubError(f"{files.folder} lacks {PROJECTION}, which a projecting decoder needs; fetch the folder again.")
    try:
        tensors = load_file(path)
        write = Project(tensors["mean"], tensors["std"], d_model)
        write.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, ValueError, LookupError) as err:
        raise HubError(f"{path} is broken, cut short or of another decoder ({err!r}); fetch the folder again.") from err
    check_tensors(tensors, path, HubError)
    expected = (len(files.config.read_layers), files.config.d_model)
    if write.mean.shape != expected:
        raise DecoderMismatch(
            f"{path} is for {tuple(write.mean.shape)} read layers and width, but {files.origin} says {expected}; "
            "the two do not belong to the same decoder. Fetch or give both again."
        )
    return write.eval()


def load_text_baseline(
    files: DecoderFiles, target: Target | None, base: str | None = None, quantised_base: bool = False
) -> TextBaseline | None:
    """Return the decoder's trained text baseline, if it brings one."""
    folder = files.folder / TEXT_BASELINE
    if not folder.is_dir():
        return None
    located = find(str(folder))
    return TextBaseline(*load_model(located, target, base, quantised_base), located.config)


def load_reference(files: DecoderFiles) -> Activations | None:
    """Return the activations that claims are compared with, if the decoder has any."""
    path, config = files.folder / REFERENCE, files.config
    if not config.n_reference and not path.is_file():
        return None
    reference = Activations.load(path) if path.is_file() else None
    if reference is None or (len(reference), reference.layers) != (config.n_reference, config.read_layers):
        got = f"{len(reference)} dialogs at layers {list(reference.layers)}" if reference else "no such file"
        raise HubError(
            f"{path} holds {got}; expected {config.n_reference} dialogs at layers {list(config.read_layers)}, as "
            f"{files.origin} says. Fetch the decoder's folder again."
        )
    return reference


def save(
    folder: Path, model: PreTrainedModel | PeftModel, config: DecoderConfig, write: nn.Module | None = None
) -> None:
    """Write adapter (bfloat16), configuration and, if the write operation has parameters, projection."""
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    if not hasattr(model, "peft_config"):
        raise OutputError(
            f"decoder {config.name!r} is a whole model, of which nothing was trained here; expected one with a LoRA. "
            "Copy its own folder."
        )
    require_writable(folder, CONFIG_FILE, OutputError)
    folder.mkdir(parents=True, exist_ok=True)
    config.save(folder)  # first, since it tells whose folder this is
    settings: Any = copy.copy(model.peft_config["default"])
    settings.base_model_name_or_path = config.base  # not the folder that it was loaded from
    (folder / SETTINGS).unlink(missing_ok=True)  # PEFT would follow a link
    settings.save_pretrained(str(folder))
    state = get_peft_model_state_dict(model, save_embedding_layers=False)  # "auto" asks the Hub about the base
    tensors = {name: value.detach().to("cpu", torch.bfloat16).contiguous() for name, value in state.items()}
    check_tensors(tensors, folder, TrainingError)
    with replacing(folder / ADAPTER) as path:
        save_file(tensors, path, metadata={"format": "pt"})
    if write is not None and (parameters := write.state_dict()):
        with replacing(folder / PROJECTION) as path:
            save_file({name: value.cpu().contiguous() for name, value in parameters.items()}, path)
