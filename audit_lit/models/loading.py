"""Load models and tokenizers, share their weights, and tell models apart by them."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from audit_lit import hub
from audit_lit.errors import TargetError, first_line
from audit_lit.hooks import HookedModel
from audit_lit.models import smollm2
from audit_lit.models.adapters import (
    SETTINGS,
    TOKENIZER,
    base_of,
    is_adapter,
    load_lora,
    merge_adapter,
    read_settings,
)
from audit_lit.models.blocks import decoder_blocks, lora_modules, that_run
from audit_lit.models.load_options import DeviceMap, Dtype, LoadOptions, MaxMemory, Quantization
from audit_lit.models.lora_bank import linear_layers, require_run
from audit_lit.models.speedups import use_fast_linear
from audit_lit.models.target import Target
from audit_lit.transfers import SAFE_FILES

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

WHERE_AND_HOW = {"subfolder", "cache_dir", "revision", "code_revision", "config", "tokenizer_type", "gguf_file"}
"""What ``AutoTokenizer`` takes to choose files and classes by; a tokenizer's own file has no say in it."""


def load_target(
    name: str | Path | Target = smollm2.ALIAS,
    *,
    adapter: str | Path | None = None,
    revision: str | None = None,
    device: str | torch.device | None = None,
    dtype: Dtype = None,
    device_map: DeviceMap = None,
    n_devices: int | None = None,
    max_memory: MaxMemory = None,
    quantization: Quantization = None,
) -> Target:
    """Load the model to audit as a ``TransformerBridge`` with raw weights.

    Args:
        name: ``smollm2-135m`` (fetched on first use), a local folder, or a Hub id. The folder may hold a LoRA alone,
            whose base is then the default target or another folder. With an adapter, also a target that is loaded
            already: both share its weights.
        adapter: Folder or Hub id of a LoRA, which is merged into the weights. Its tokenizer is used if it has one.
        revision: Commit, tag or branch of a Hub model.
        device: The one device to run it on, such as ``cuda``; None is the CPU, unless the model is split.
        dtype: Type of the parameters: ``auto`` (that of the files), ``float32``, ``bfloat16``, ``float16``, or a torch
            dtype. None is float32, or bfloat16 for what stays unquantised of a quantised model. A decoder reads best
            the type that it was trained on; the shipped one, float32.
        device_map: How transformers splits the model: ``auto``, ``balanced``, or modules and their devices.
        n_devices: Split the model evenly over this many GPUs.
        max_memory: With either of these, the most that each device may hold, such as ``{0: "20GiB"}``.
        quantization: ``8bit`` or ``4bit`` (bitsandbytes, extra ``quantize``), or a configuration of transformers.

    Raises:
        TargetError: If the model or the adapter cannot be loaded, or the options contradict each other.
        HubError: If the model or the adapter cannot be fetched, or is not the name of one.
    """
    if isinstance(name, Target) and adapter is not None:
        places = (revision, device, dtype, device_map, n_devices, max_memory, quantization)
        if any(place is not None for place in places):
            raise TargetError(
                f"{name.name!r} is loaded already, and the adapter goes where it is; expected no revision, device, "
                "type, split or quantisation. Leave them out."
            )
        return adapted(name, adapter)
    if isinstance(name, Target | nn.Module):
        raise TargetError(
            f"got a {type(name).__name__} for the name of a target; expected a folder or a Hub id. A model that is "
            "loaded already goes to Auditor(model, decoder, tokenizer=tokenizer) as it is."
        )
    options = LoadOptions(device, dtype, device_map, n_devices, max_memory, quantization)
    folder = model_folder(name, revision=revision)
    lora = None if adapter is None else hub.resolve(adapter, kind="model")
    if lora is None and is_adapter(folder):
        lora, folder = folder, model_folder(base_of(folder))
    tokenizer = load_tokenizer(lora if lora and (lora / TOKENIZER).is_file() else folder)
    if lora is not None and quantization is not None:
        raise _not_mergeable(lora, "quantised")
    base = load_base(folder, options)
    base = base if lora is None else _merged(base, lora)
    commits = [hub.commit_of(folder) or revision, hub.commit_of(lora) if lora else None]
    return Target(
        boot_bridge(base, folder, tokenizer),
        tokenizer,
        str(name) if adapter is None else f"{name} + {adapter}",
        " + ".join(filter(None, commits)) or None,
        base,
    )


def adapted(target: Target, adapter: str | Path) -> Target:
    """Return a target with a LoRA on it, which shares the weights of the one without it.

    Raises:
        TargetError: If the target has no plain weights to share, or the LoRA is not one that can be put on them.
        HubError: If the adapter cannot be fetched.
    """
    if target.base is None:
        raise TargetError(f"{target.name!r} has no plain weights to share; expected the result of load_target(name).")
    folder = hub.resolve(adapter, kind="model")
    lora = load_lora(folder)
    tokenizer = load_tokenizer(folder) if (folder / TOKENIZER).is_file() else target.tokenizer
    model = boot_bridge(target.base, Path(target.base.name_or_path), tokenizer)
    require_run(lora, target.base, model)
    lora.attach(model.original_model)  # type: ignore[attr-defined]
    for name, layer in linear_layers(model.original_model).items():  # type: ignore[attr-defined]
        if name in lora.down:  # so that hashes of the weights tell the two models apart
            change = lora.up[name][0] @ lora.down[name][0, :, :1]
            layer.register_parameter("lora_change", nn.Parameter(change, requires_grad=False))
    return Target(model, tokenizer, f"{target.name} + {adapter}", target.revision, None, lora)


def _merged(base: PreTrainedModel, lora: Path) -> PreTrainedModel:
    if is_quantised(base) or is_offloaded(base):
        raise _not_mergeable(lora, "quantised" if is_quantised(base) else "offloaded")
    return merge_adapter(base, lora)


def _not_mergeable(lora: Path, what: str) -> TargetError:
    return TargetError(
        f"the adapter in {lora} cannot be merged into {what} weights; expected weights in floating point on devices. "
        "Merge it once in bfloat16, save the model, and load that folder."
    )


def model_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """Return a local folder with the model's files, which are fetched if they are not there."""
    if isinstance(name, str) and name == smollm2.ALIAS:
        if revision is not None:
            raise TargetError(
                f"{name!r} has no revisions: it is one file of known SHA-256; got revision {revision!r}. Leave it out."
            )
        return smollm2.ensure_default_target()
    return hub.resolve(name, revision=revision, kind="model")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer that pads on the left."""
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as err:  # the libraries raise errors of any kind about a broken file
        raise _broken(folder, "tokenizer", err) from err
    tokenizer.padding_side = "left"
    return tokenizer


def tokenizer_of(name: str | Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model by its name; of one on the Hub, the weights are not fetched."""
    if name == smollm2.ALIAS:
        return load_tokenizer(model_folder(name))
    without_weights = [pattern for pattern in SAFE_FILES if pattern != "*.safetensors"]
    return load_tokenizer(hub.resolve(name, kind="model", files=without_weights))


def read_config(folder: Path) -> PreTrainedConfig:
    """Return the settings in a model's folder, of which none makes transformers run code."""
    from transformers import AutoConfig

    config: PreTrainedConfig = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    config._attn_implementation = None  # a file may name a repository of kernels here, which are code
    return config


def load_base(folder: Path, options: LoadOptions) -> PreTrainedModel:
    """Load a plain Hugging Face causal language model, safetensors only."""
    from transformers import AutoModelForCausalLM

    try:
        if (folder / SETTINGS).is_file():  # transformers applies an adapter that lies beside the model
            read_settings(folder)
        config = read_config(folder)
        arguments = options.arguments(quantised=getattr(config, "quantization_config", None) is not None)
        safely = {"use_safetensors": True, "trust_remote_code": False, "output_loading_info": True}
        model, report = AutoModelForCausalLM.from_pretrained(folder, config=config, **arguments, **safely)
    except Exception as err:  # the libraries raise errors of any kind about a broken file
        raise _broken(folder, "model", err) from err
    if missing := sorted(report["missing_keys"]):  # transformers only warns, and leaves them random
        raise _broken(folder, "model", f"{len(missing)} of its weights are missing, such as {missing[0]!r}")
    if isinstance(options.device_map, Mapping):
        _check_modules(options.device_map, model)
    if model.get_input_embeddings().weight.is_meta:
        raise TargetError(
            "the token embeddings are offloaded, so that tokens have no device to go to; expected them on a device. "
            "Leave them out of the disk's part of device_map, or raise max_memory of the first device."
        )
    if "device_map" not in arguments:
        try:
            model = model.to(options.single_device)
        except (AssertionError, NotImplementedError, RuntimeError) as err:  # it does not fit
            raise TargetError(
                f"the model could not be put on device {options.single_device!r}: {first_line(err)}. Try another type "
                "or device; 'audit-lit doctor --target ID' says what fits."
            ) from err
    return model.eval()


def _check_modules(device_map: Mapping[str, object], model: PreTrainedModel) -> None:
    """Raise if a module of a mapping to devices is not the model's, which transformers passes over."""
    known = dict(model.named_modules()) | dict(model.named_parameters())
    if unknown := [name for name in device_map if name not in known]:
        raise TargetError(
            f"device_map names {unknown[0]!r}, which the model does not have; expected some of its modules, such as "
            f"{', '.join(name for name, _ in model.named_children())}, or '' for all of it."
        )


def _broken(folder: Path, part: str, reason: object) -> TargetError:
    return TargetError(
        f"the {part} in {folder} could not be loaded: {first_line(reason)}. Expected config.json, tokenizer.json and "
        "the complete weights of a causal language model as *.safetensors; fetch the folder again."
    )


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the modules that shares every parameter, so that the weights are in memory once."""
    return copy.deepcopy(model, {id(param): param for param in model.parameters()})


def is_offloaded(model: PreTrainedModel) -> bool:
    """Return whether some of the weights are fetched from elsewhere for each use, such as from the disk."""
    return any(parameter.is_meta for parameter in model.parameters())


def is_quantised(model: PreTrainedModel) -> bool:
    """Return whether transformers holds the weights in fewer bits than they are computed in."""
    return bool(getattr(model, "is_quantized", False))


def weights_fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a few values of every parameter, rounded to bfloat16; it tells a fine-tune from its base."""
    from accelerate.utils import align_module_device

    digest = hashlib.sha256()
    for name in sorted(name for name, _ in model.named_parameters()):
        path, _, own_name = name.rpartition(".")
        with align_module_device(model.get_submodule(path)):  # reads what is offloaded
            values = model.get_submodule(path).get_parameter(own_name).detach().flatten()[:64].to("cpu", torch.bfloat16)
        digest.update(name.encode() + values.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def boot_bridge(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> HookedModel:
    """Return a ``TransformerBridge`` on the same parameters; it gets copies of what booting changes.

    Raises:
        TargetError: If TransformerLens cannot wrap the model, or would pass over a LoRA in it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    modules = share_weights(base)
    layers = {module: name for name, module in modules.named_modules() if isinstance(module, BaseTunerLayer)}
    model = _boot(modules, folder, tokenizer)
    if layers and (passed_over := set(layers) - that_run(model, layers)):
        names = sorted({layers[module].rpartition(".")[2] for module in passed_over})
        raise TargetError(
            f"the model has a LoRA on {', '.join(names)}, which TransformerLens splits, so that it would not act; "
            "expected one on other layers, or in the weights. Merge it: model.merge_and_unload(), or "
            "load_target(BASE, adapter=FOLDER)."
        )
    return model


def bridged_layers(base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Return the names of the blocks' linear layers that a ``TransformerBridge`` runs as they are."""
    modules, names = share_weights(base), lora_modules(base)
    layers = {module: name.rpartition(".")[2] for name, module in decoder_blocks(modules).named_modules()}
    linear = [module for module, name in layers.items() if name in names]
    ran = that_run(_boot(modules, Path(base.name_or_path), tokenizer), linear)
    return sorted({layers[module] for module in ran})


def _boot(modules: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> HookedModel:
    from transformer_lens.model_bridge import TransformerBridge

    tokenizer = copy.deepcopy(tokenizer)
    # TransformerLens loads the tokenizer again, with whatever its file holds as arguments.
    harmless = {name: value for name, value in tokenizer.init_kwargs.items() if name not in WHERE_AND_HOW}
    tokenizer.init_kwargs = harmless | {"trust_remote_code": False}
    use_fast_linear(modules)
    try:
        model: HookedModel = TransformerBridge.boot_transformers(
            str(folder), hf_model=modules, tokenizer=tokenizer, trust_remote_code=False
        )
    except Exception as err:  # TransformerLens raises errors of any kind about a model that it cannot wrap
        raise TargetError(
            f"TransformerLens cannot wrap the {type(modules).__name__} of {folder}: {str(err)[:300]} Expected a causal "
            "language model of an architecture that it supports; take another target, or load it unquantised."
        ) from err
    return model
