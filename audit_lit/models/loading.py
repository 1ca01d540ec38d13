"""Load models and tokenizers, share their weights, and tell models apart by them."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import hub
from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.hooks import HookedModel
from audit_lit.models import smollm2
from audit_lit.models.adapters import SETTINGS, TOKENIZER, base_of, is_adapter, merge_adapter, read_settings
from audit_lit.models.speedups import use_fast_linear
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
"""The types that models compute in."""
WHERE_AND_HOW = {"subfolder", "cache_dir", "revision", "code_revision", "config", "tokenizer_type", "gguf_file"}
"""What ``AutoTokenizer`` takes to choose files and classes by; a tokenizer's own file has no say in it."""


def load_target(
    name: str | Path = smollm2.ALIAS,
    *,
    adapter: str | Path | None = None,
    revision: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Target:
    """Load the model to audit as a ``TransformerBridge`` with raw weights.

    Args:
        name: ``smollm2-135m`` (fetched on first use), a local folder, or a Hub id. The folder may hold a LoRA alone,
            whose base is then the default target or another folder.
        adapter: Folder or Hub id of a LoRA, which is merged into the weights. Its tokenizer is used if it has one.
        revision: Commit, tag or branch of a Hub model.
        device: Device to run it on, such as ``cpu`` or ``cuda``.
        dtype: Type of the parameters. A decoder reads best the type that it was trained on; the shipped one, float32.

    Raises:
        TargetError: If the model or the adapter cannot be loaded, on this device and in this type.
        HubError: If the model or the adapter cannot be fetched, or is not the name of one.
    """
    if isinstance(name, Target | nn.Module):
        raise TargetError(
            f"got a {type(name).__name__} for the name of a target; expected a folder or a Hub id. A model that is "
            "loaded already goes to Auditor(model, decoder, tokenizer=tokenizer) as it is."
        )
    device, dtype = _device(device), _dtype(dtype)
    folder = model_folder(name, revision=revision)
    lora = None if adapter is None else hub.resolve(adapter, kind="model")
    if lora is None and is_adapter(folder):
        lora, folder = folder, model_folder(base_of(folder))
    tokenizer = load_tokenizer(lora if lora and (lora / TOKENIZER).is_file() else folder)
    base = load_base(folder, device=device, dtype=dtype)
    base = base if lora is None else merge_adapter(base, lora)
    commits = [hub.commit_of(folder) or revision, hub.commit_of(lora) if lora else None]
    return Target(
        boot_bridge(base, folder, tokenizer),
        tokenizer,
        str(name) if adapter is None else f"{name} + {adapter}",
        " + ".join(filter(None, commits)) or None,
        base,
    )


def _device(device: Any) -> torch.device:
    """Return a device that holds values; raise ``TargetError`` for what names none."""
    try:
        named = torch.device(device)
        if named.type == "meta":
            raise RuntimeError("meta tensors hold no values")
        return named
    except (RuntimeError, TypeError, ValueError, OverflowError) as err:
        reason = str(err).splitlines()[0]
        raise TargetError(f"there is no device {device!r:.80} ({reason}); try another, such as cpu or cuda.") from err


def _dtype(dtype: Any) -> torch.dtype:
    """Return a type that models compute in, which may be given by its name; raise ``TargetError`` for any other."""
    named = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if named not in DTYPES:
        raise TargetError(f"got dtype={dtype!r:.80}; expected one of {', '.join(map(str, DTYPES))}.")
    result: torch.dtype = named
    return result


def model_folder(name: str | Path, *, revision: str | None = None) -> Path:
    """Return a local folder with the model's files, which are fetched if they are not there."""
    if name == smollm2.ALIAS:
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


def load_base(folder: Path, *, device: str | torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """Load a plain Hugging Face causal language model, safetensors only."""
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        if (folder / SETTINGS).is_file():  # transformers applies an adapter that lies beside the model
            read_settings(folder)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        config._attn_implementation = None  # a file may name a repository of kernels here, which are code
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as err:  # the libraries raise errors of any kind about a broken file
        raise _broken(folder, "model", err) from err
    if missing := sorted(report["missing_keys"]):  # transformers only warns, and leaves them random
        raise _broken(folder, "model", f"{len(missing)} of its weights are missing, such as {missing[0]!r}")
    try:
        return model.to(device).eval()
    except (AssertionError, NotImplementedError, RuntimeError) as err:
        reason = str(err).splitlines()[0]
        raise TargetError(
            f"the model could not be put on device '{device}': {reason}. Try another, such as cpu."
        ) from err


def _broken(folder: Path, part: str, reason: object) -> TargetError:
    first_line = (str(reason).strip() or repr(reason)).splitlines()[0].rstrip(".:")
    return TargetError(
        f"the {part} in {folder} could not be loaded: {first_line}. Expected config.json, tokenizer.json and the "
        "complete weights of a causal language model as *.safetensors; fetch the folder again."
    )


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the modules that shares every parameter, so that the weights are in memory once."""
    return copy.deepcopy(model, {id(param): param for param in model.parameters()})


def weights_fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a few values of every parameter, rounded to bfloat16; it tells a fine-tune from its base."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        values = parameter.detach().flatten()[:64].to("cpu", torch.bfloat16)
        digest.update(name.encode() + values.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def boot_bridge(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> HookedModel:
    """Return a ``TransformerBridge`` on the same parameters; it gets copies of what booting changes."""
    from transformer_lens.model_bridge import TransformerBridge

    modules, tokenizer = share_weights(base), copy.deepcopy(tokenizer)
    # TransformerLens loads the tokenizer again, with whatever its file holds as arguments.
    harmless = {name: value for name, value in tokenizer.init_kwargs.items() if name not in WHERE_AND_HOW}
    tokenizer.init_kwargs = harmless | {"trust_remote_code": False}
    use_fast_linear(modules)
    model: HookedModel = TransformerBridge.boot_transformers(
        str(folder), hf_model=modules, tokenizer=tokenizer, trust_remote_code=False
    )
    return model


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """Return the blocks of a causal language model, by whatever name the architecture has for them."""
    config: Any = model.config
    n_layers = config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise DecoderMismatch(
        f"no list of {n_layers} blocks in a {type(model).__name__}; expected a causal language model. Load another one."
    )
