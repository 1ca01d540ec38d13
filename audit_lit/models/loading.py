"""Load models and tokenizers, and share their weights."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import hub
from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.hooks import HookedModel
from audit_lit.models import smollm2
from audit_lit.models.speedups.linear import use_fast_linear
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_target(
    name: str = smollm2.ALIAS,
    *,
    revision: str | None = None,
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Target:
    """Load the model to audit as a ``TransformerBridge`` with raw weights.

    Args:
        name: ``smollm2-135m`` (fetched on first use), a local folder, or a Hub id.
        revision: Commit, tag or branch of a Hub model.
        device: Where to run it.
        dtype: Parameter type; decoders are least surprised by the one they were trained on (float32 on CPU).

    Raises:
        TargetError: If it cannot be loaded.
        HubError: If it cannot be fetched.
    """
    folder = model_folder(name, revision=revision)
    tokenizer = load_tokenizer(folder)
    base = load_base(folder, device=device, dtype=dtype)
    return Target(boot_bridge(base, folder, tokenizer), tokenizer, name, hub.commit_of(folder) or revision, base)


def model_folder(name: str, *, revision: str | None = None) -> Path:
    """Return a local folder with the model's files, fetched if need be."""
    if name == smollm2.ALIAS:
        return smollm2.ensure_default_target()
    return hub.resolve(name, revision=revision, kind="model")


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load a Hugging Face tokenizer that pads on the left.

    Raises:
        TargetError: If its files are missing or broken.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except Exception as err:  # the libraries raise whatever a broken file leads to
        raise _broken(folder, "tokenizer", err) from err
    tokenizer.padding_side = "left"
    return tokenizer


def load_base(folder: Path, *, device: str, dtype: torch.dtype) -> PreTrainedModel:
    """Load a plain Hugging Face causal language model, safetensors only.

    Raises:
        TargetError: If the folder's files are broken, incomplete or of an unknown architecture, or there is no such
            device.
    """
    from transformers import AutoModelForCausalLM

    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, output_loading_info=True
        )
    except Exception as err:  # the libraries raise whatever a broken file leads to
        raise _broken(folder, "model", err) from err
    if missing := sorted(report["missing_keys"]):  # transformers only warns, and leaves them random
        raise _broken(folder, "model", f"{len(missing)} of its weights are missing, such as {missing[0]!r}")
    try:
        if torch.device(device).type == "meta":
            raise RuntimeError("meta tensors hold no values")
        return model.to(device).eval()
    except (AssertionError, RuntimeError) as err:
        raise TargetError(f"the model could not be put on device {device!r}: {err}. Try another, such as cpu.") from err


def _broken(folder: Path, what: str, reason: object) -> TargetError:
    first = (str(reason).strip() or repr(reason)).splitlines()[0].rstrip(".:")
    return TargetError(
        f"the {what} in {folder} could not be loaded: {first}. Expected config.json, tokenizer.json and the complete "
        "weights of a causal language model as *.safetensors; fetch the folder again."
    )


def share_weights(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the modules that shares every parameter: one copy of the weights in memory."""
    return copy.deepcopy(model, {id(param): param for param in model.parameters()})


def boot_bridge(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> HookedModel:
    """Return a ``TransformerBridge`` on the same parameters; booting rewires modules and tokenizer: it gets its own."""
    from transformer_lens.model_bridge import TransformerBridge

    shared, own = share_weights(base), copy.deepcopy(tokenizer)
    use_fast_linear(shared)
    model: HookedModel = TransformerBridge.boot_transformers(str(folder), hf_model=shared, tokenizer=own)
    return model


def decoder_blocks(model: nn.Module) -> nn.ModuleList:
    """Return a causal language model's blocks, whatever the architecture calls them.

    Raises:
        DecoderMismatch: If it has no such list.
    """
    config: Any = model.config
    n_layers = config.get_text_config().num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise DecoderMismatch(
        f"no list of {n_layers} blocks in a {type(model).__name__}; expected a causal language model."
    )


def quiet_libraries() -> None:
    """Keep transformers' progress bars and deprecations out of a person's terminal."""
    import warnings

    from transformers.utils import logging

    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
