"""The model under audit: a TransformerLens model, our own tokenizer, and what identifies it."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from audit_lit import default_target, hub
from audit_lit.errors import DecoderMismatch, TargetError
from audit_lit.hooks import HookedModel, fingerprint, require_raw
from audit_lit.linear import speed_up

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Target:
    """A model whose activations are read.

    Attributes:
        model: The TransformerLens model (``TransformerBridge`` or ``HookedTransformer``), raw weights.
        tokenizer: The Hugging Face tokenizer; TransformerLens' own adds a second BOS to chat text.
        name: Alias, Hub id or folder.
        revision: Commit of a Hub model, if known.
        base: A plain Hugging Face copy that shares the model's parameters, for a decoder on the same base.
    """

    model: HookedModel
    tokenizer: PreTrainedTokenizerBase
    name: str
    revision: str | None = None
    base: PreTrainedModel | None = None

    def __post_init__(self) -> None:
        """Refuse what would make every answer wrong.

        Raises:
            TargetError: If the object is no TransformerLens model, or its weights are processed.
        """
        if not isinstance(self.model, HookedModel):
            raise TargetError(
                f"got a {type(self.model).__name__}; expected a TransformerLens model. Wrap a Hugging Face model with "
                "TransformerBridge.boot_transformers(name), or use audit_lit.load_target(name)."
            )
        try:
            require_raw(self.model)
        except ValueError as err:
            raise TargetError(str(err)) from err

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(self.model.cfg.d_model)

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.model.cfg.n_layers)

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return torch.device(self.model.cfg.device or "cpu")

    @property
    def n_ctx(self) -> int:
        """Longest input in tokens."""
        return int(self.model.cfg.n_ctx)

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Draw from a seed inside the ``with`` body; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield

    def fingerprint(self) -> str:
        """Return what tells the model from others of its shape (see ``hooks.fingerprint``)."""
        return fingerprint(self.model)


def load_target(
    name: str = default_target.ALIAS,
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
    return Target(boot(base, folder, tokenizer), tokenizer, name, hub.commit_of(folder) or revision, base)


def model_folder(name: str, *, revision: str | None = None) -> Path:
    """Return a local folder with the model's files, fetched if need be."""
    if name == default_target.ALIAS:
        return default_target.ensure_default_target()
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


def weights_fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of a few values of every parameter, rounded to bfloat16: it tells a fine-tune from its base."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        few = parameter.detach().flatten()[:64].to("cpu", torch.bfloat16)
        digest.update(name.encode() + few.contiguous().view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def share(model: PreTrainedModel) -> PreTrainedModel:
    """Return a copy of the modules that shares every parameter: one copy of the weights in memory."""
    return copy.deepcopy(model, {id(param): param for param in model.parameters()})


def boot(base: PreTrainedModel, folder: Path, tokenizer: PreTrainedTokenizerBase) -> HookedModel:
    """Return a ``TransformerBridge`` on the same parameters; booting rewires modules and tokenizer: it gets its own."""
    from transformer_lens.model_bridge import TransformerBridge

    shared, own = share(base), copy.deepcopy(tokenizer)
    speed_up(shared)
    model: HookedModel = TransformerBridge.boot_transformers(str(folder), hf_model=shared, tokenizer=own)
    return model


def blocks_of(model: nn.Module) -> nn.ModuleList:
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
