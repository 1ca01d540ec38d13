"""LoRAs as PEFT saves them: their settings are read, and they are put on a base or merged into it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit import hub
from audit_lit.errors import HubError, TargetError, first_line
from audit_lit.files.reading import check_tensors, read_json
from audit_lit.models import smollm2

if TYPE_CHECKING:
    from peft import PeftConfig, PeftModel
    from torch import Tensor
    from transformers import PreTrainedModel

    from audit_lit.models.lora_bank import LoraBank

SETTINGS, WEIGHTS, TOKENIZER = "adapter_config.json", hub.ADAPTER, "tokenizer_config.json"

PATTERNS = ("target_modules", "exclude_modules", "layers_pattern", "rank_pattern", "alpha_pattern", "target_parameters")
"""PEFT's settings that hold patterns of module names, alone, in lists or as keys."""
UNLIKE_LORA = {"layer_replication": "repeats blocks", "alora_invocation_tokens": "lets it act after some tokens alone"}
"""PEFT's settings that make something else of a LoRA than a change of weights."""
MOST_REPEATS, LONGEST = 3, 1000
REPEAT, GROUP_REPEAT = re.compile(r"(?<!\()[*+?{]"), re.compile(r"\)[*+?{]")


def is_adapter(folder: Path) -> bool:
    """Return whether a folder holds a PEFT adapter and no whole model."""
    return (folder / SETTINGS).is_file() and not (folder / "config.json").is_file()


def base_of(folder: Path) -> str:
    """Return the name of the base of an adapter that was named alone: the default target or a folder here.

    Raises:
        TargetError: If the adapter names no base, or one that would have to be fetched.
    """
    settings = read_json(folder / SETTINGS, TargetError)
    name = settings.get("base_model_name_or_path") if isinstance(settings, dict) else None
    if not isinstance(name, str) or not name:
        raise TargetError(
            f"{folder / SETTINGS} names no base model; expected 'base_model_name_or_path'. Name the base yourself: "
            f"load_target(BASE, adapter={str(folder)!r}), or --target BASE --adapter FOLDER."
        )
    if name != smollm2.ALIAS and not Path(name).is_dir():
        raise TargetError(
            f"the adapter in {folder} is for {name!r}, which is no folder here, and is not fetched unless you name it: "
            f"load_target({name!r}, adapter={str(folder)!r}), or --target {name} --adapter {folder}."
        )
    return name


def read_settings(folder: Path) -> Any:
    """Return PEFT's settings of an adapter; PEFT raises errors of any kind about a broken file.

    Its patterns of module names are regular expressions, where nested repetitions take exponential time.

    Raises:
        HubError: If the file cannot be read as JSON, or holds a key twice or a number that is not finite.
        ValueError: If a pattern might take for ever to match, or it repeats blocks or acts on some tokens alone.
    """
    from peft import PeftConfig

    read_json(folder / SETTINGS, HubError)  # more strictly than PEFT does
    settings = PeftConfig.from_pretrained(str(folder))
    if unlike := [name for name in UNLIKE_LORA if getattr(settings, name, None)]:
        raise ValueError(
            f"its {unlike[0]} {UNLIKE_LORA[unlike[0]]}, which is not followed here; expected a LoRA of the base's own "
            "blocks that acts on every token"
        )
    fields = (getattr(settings, name, None) for name in PATTERNS)
    for pattern in (text for field in fields for text in ([field] if isinstance(field, str) else field or ())):
        if len(pattern) > LONGEST or GROUP_REPEAT.search(pattern) or len(REPEAT.findall(pattern)) > MOST_REPEATS:
            raise ValueError(
                f"the pattern {pattern[:60]!r} of module names might take for ever to match; expected names, or a "
                f"pattern with at most {MOST_REPEATS} repetitions, none of them of a group"
            )
    return settings


def put_on(base: PreTrainedModel, folder: Path, settings: PeftConfig) -> PeftModel:
    """Return a base with a LoRA on it; PEFT raises errors of any kind about settings that do not fit.

    Raises:
        ValueError: If a tensor is missing, or has no place in the base.
    """
    from peft import MODEL_TYPE_TO_PEFT_MODEL_MAPPING, PeftModel

    # The steps of PeftModel.from_pretrained, which does not return the report of what it loads.
    settings.inference_mode = True
    model: PeftModel = MODEL_TYPE_TO_PEFT_MODEL_MAPPING.get(settings.task_type, PeftModel)(base, settings)
    renamed = getattr(base, "_checkpoint_conversion_mapping", {})
    report = model.load_adapter(str(folder), "default", key_mapping=renamed)
    if misfits := [*report.missing_keys, *report.unexpected_keys]:  # PEFT warns at most, and leaves them random
        raise ValueError(f"{len(misfits)} tensors are missing or have no place, such as {misfits[0]!r}")
    return model


def load_lora(folder: Path) -> LoraBank:
    """Return a LoRA that can be switched on and off.

    Raises:
        TargetError: If the folder holds no complete plain LoRA as safetensors.
        HubError: If its weights are a pickle.
    """
    from audit_lit.models.lora_bank import from_peft

    tensors = _read_weights(folder)
    try:
        settings = read_settings(folder).to_dict()
    except Exception as err:  # PEFT raises errors of any kind about a broken file
        raise TargetError(f"the adapter in {folder} could not be read: {first_line(err)}. Fetch it again.") from err
    return from_peft({**settings, "peft_type": str(settings["peft_type"]).rpartition(".")[2]}, tensors)


def _read_weights(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of an adapter; raise if they are missing or a pickle."""
    from safetensors.torch import load_file

    hub.refuse_pickles(folder, [path.name for path in folder.iterdir()])
    if not (folder / WEIGHTS).is_file():
        raise TargetError(
            f"{folder} holds no {WEIGHTS}; expected a PEFT adapter as safetensors. Save it with save_pretrained."
        )
    try:
        tensors = load_file(folder / WEIGHTS)
    except Exception as err:  # safetensors raises errors of its own
        raise TargetError(
            f"{folder / WEIGHTS} could not be read: {first_line(err)}. Expected the complete adapter; fetch it again."
        ) from err
    check_tensors(tensors, folder / WEIGHTS, TargetError)
    return tensors


def merge_adapter(base: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return a base with a LoRA merged into its weights.

    Raises:
        TargetError: If the folder holds no complete LoRA as safetensors, or one for another base.
        HubError: If its weights are a pickle.
    """
    _read_weights(folder)
    try:
        settings = read_settings(folder)
        if settings.peft_type != "LORA":
            raise ValueError(f"it is of type {settings.peft_type}, and not a LoRA")
        merged: PreTrainedModel = put_on(base, folder, settings).merge_and_unload(safe_merge=True)
    except Exception as err:  # the libraries raise errors of any kind about a broken file
        raise TargetError(
            f"the adapter in {folder} does not fit {base.name_or_path!r}: {str(err)[:300]}. Expected a complete LoRA; "
            "load the base that it was trained on, or fetch it again."
        ) from err
    return merged.eval()
