"""Make a target of whatever model a caller has: a TransformerLens model, or a plain Hugging Face or PEFT one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit.errors import TargetError
from audit_lit.hooks import is_hooked
from audit_lit.models.loading import boot_bridge
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


UNNAMED = "unnamed"
"""Name of a model that does not say its own."""


def as_target(model: Any, tokenizer: PreTrainedTokenizerBase, name: str = UNNAMED) -> Target:
    """Return a target; a bare model becomes one with this tokenizer, and this name if it has none.

    A plain Hugging Face causal language model, or one that PEFT has wrapped, is bridged; its weights are shared. A
    model that ``torch.compile`` has wrapped is unwrapped, since its hooks would not run.

    Raises:
        TargetError: If it is no such model, or the tokenizer is none.
    """
    if not callable(getattr(tokenizer, "apply_chat_template", None)):
        raise TargetError(
            f"got {tokenizer!r:.80} for a tokenizer; expected a Hugging Face tokenizer. Use "
            "AutoTokenizer.from_pretrained."
        )
    if isinstance(model, Target):
        return model
    model = getattr(model, "_orig_mod", model)
    if is_hooked(model):
        return Target(model, tokenizer, str(getattr(model.cfg, "model_name", None) or name))
    plain, is_adapted = _causal_model(model)
    own_name = str(plain.name_or_path or name) + " + adapter" * is_adapted
    bridge = boot_bridge(plain, Path(plain.name_or_path or name), tokenizer)
    return Target(bridge, tokenizer, own_name, None, None if is_adapted else plain)  # no base of a decoder


def _causal_model(model: Any) -> tuple[PreTrainedModel, bool]:
    """Return the Hugging Face model to bridge, and whether PEFT has put an adapter into its layers."""
    from transformers import PreTrainedModel

    plain, is_adapted = model, hasattr(model, "peft_config")
    if is_adapted and not isinstance(model, PreTrainedModel):
        if any(config.is_prompt_learning for config in model.peft_config.values()):
            raise TargetError(
                "got a PEFT model with a learnt prompt, which is no part of its layers; expected a LoRA or another "
                "adapter of its layers."
            )
        plain = model.get_base_model()
    if isinstance(plain, PreTrainedModel) and plain.can_generate():
        return plain, is_adapted
    got = f"{model!r}" if model is None or isinstance(model, str) else f"a {type(model).__name__}"
    raise TargetError(
        f"got {got} for a target; expected the result of audit_lit.load_target(name), a TransformerLens model, or a "
        "Hugging Face causal language model."
    )
