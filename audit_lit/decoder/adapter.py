"""Load a plain LoRA, and refuse whatever would change the base model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.errors import DecoderMismatch, HubError

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from transformers import PreTrainedModel

ADAPTER = "adapter_model.safetensors"
HARMLESS_INITS = (True, False, "gaussian", "orthogonal", "eva")
"""Ways to initialise a LoRA that leave the base alone; others, such as PiSSA, rewrite its weights."""


def check_adapter(folder: Path) -> PeftConfig:
    """Return the adapter's settings, if it is a plain LoRA.

    Raises:
        HubError: If a file is missing, broken or cut short, or the adapter is anything else.
    """
    settings = _read_settings(folder)
    _check_tensors(folder)
    return settings


def _read_settings(folder: Path) -> PeftConfig:
    from peft import PeftConfig

    try:
        settings: Any = PeftConfig.from_pretrained(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise HubError(
            f"adapter_config.json in {folder} is missing or broken ({err}); expected the settings of a PEFT adapter. "
            "Fetch the folder again."
        ) from err
    if settings.peft_type != "LORA" or settings.init_lora_weights not in HARMLESS_INITS:
        raise HubError(
            f"the adapter in {folder} is of type {settings.peft_type.value}, initialised by "
            f"{getattr(settings, 'init_lora_weights', None)!r}; expected a plain LoRA, which leaves the base model's "
            "weights alone. Convert it with PEFT's save_pretrained(path_initial_model_for_weight_conversion=...)."
        )
    return settings


def _check_tensors(folder: Path) -> None:
    """Refuse an adapter with tensors other than a LoRA's: PEFT would write them into the target's own weights."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(folder / ADAPTER, "pt") as file:
            other = sorted(name for name in file.keys() if ".lora_" not in name)  # noqa: SIM118
    except SafetensorError as err:
        raise HubError(f"{folder / ADAPTER} is broken or cut short ({err}); fetch the folder again.") from err
    if other:
        raise HubError(
            f"{folder / ADAPTER} holds {len(other)} tensors that do not belong to a LoRA, such as {other[0]!r}, which "
            "would change the base model; expected a plain LoRA. Ask the author for one without modules_to_save or "
            "embeddings."
        )


def load_adapter(base: PreTrainedModel, folder: Path, settings: PeftConfig, config: DecoderConfig) -> PeftModel:
    """Return the base with the adapter on it.

    Raises:
        DecoderMismatch: If a tensor is missing or has no place, or the LoRA's scaling is not what the decoder says.
    """
    from peft import PeftModel

    try:
        model = PeftModel.from_pretrained(base, str(folder), config=settings)
        report = model.load_adapter(str(folder), "default")  # once more, for the report that from_pretrained keeps
    except (RuntimeError, ValueError, KeyError, TypeError) as err:
        raise _misfit(folder, config, err) from err
    if wrong := [*report.missing_keys, *report.unexpected_keys]:  # PEFT at most warns, and leaves them random
        raise _misfit(folder, config, f"{len(wrong)} tensors are missing or have no place, such as {wrong[0]!r}")
    _check_scaling(model, config)
    return model


def _misfit(folder: Path, config: DecoderConfig, reason: object) -> DecoderMismatch:
    return DecoderMismatch(
        f"the adapter in {folder} does not fit the base {config.base!r}: {str(reason)[:300]}. Load the base that it "
        "was trained on."
    )


def _check_scaling(model: PeftModel, config: DecoderConfig) -> None:
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    scalings = {float(scaling) for layer in layers for scaling in layer.scaling.values()}
    if config.lora_scaling is not None and scalings != {config.lora_scaling}:
        raise DecoderMismatch(
            f"the adapter's LoRA scaling is {sorted(scalings)}, but {CONFIG_FILE} says {config.lora_scaling}; the two "
            "files are not of one decoder. Fetch both again."
        )
