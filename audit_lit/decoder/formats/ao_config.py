"""``ao_config.json``: how the activation oracles' authors describe an oracle (schema 1).

Source: nl_probes/configs/sft_config.py of github.com/adamkarvonen/activation_oracles.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field, StrictBool, StrictInt

from audit_lit.decoder.config import DecoderConfig
from audit_lit.decoder.formats.activation_oracles import activation_oracle
from audit_lit.decoder.formats.sidecar import EachOnce, Layers, Sidecar, check_schema, checked, model_sizes, unreadable
from audit_lit.decoder.wire_format import Count, Factor, Index, Text
from audit_lit.errors import DecoderConfigError
from audit_lit.files.reading import read_json

FILE = "ao_config.json"
NEWEST_SCHEMA = 1
SLOTS = "{special_token} * {num_positions}"
"""Prose for as many slots as there are positions."""

TRAINING = """
activation_collection_batch_size chat_regularization_every_n_ao_updates chat_regularization_max_train_examples
chat_regularization_path chat_regularization_weight created_at_utc dataset_configs dataset_folder dataset_loader_names
eval_batch_size eval_logs_path eval_on_start eval_steps examples_per_source_epoch fp8 generation_kwargs git_commit
gradient_accumulation_steps gradient_checkpointing hf_private_repo hf_push_to_hub hf_repo_id hf_repo_name load_in_8bit
load_lora_path lora_dropout lora_target_modules lr max_grad_norm max_target_tokens max_train_examples
monitor_eval_on_start monitor_eval_steps monitor_num_eval_examples_classification_total
monitor_num_eval_examples_per_component num_epochs open_ended_eval_include open_ended_eval_max_entries
positive_negative_examples resume_from save_dir save_steps save_training_state seed train_batch_size
train_batches_per_materialization_block unsloth_max_seq_length use_decoder_vectors use_lora use_unsloth
validation_dataset_configs validation_dataset_loader_names validation_on_start validation_steps wandb_project
wandb_run_name wandb_suffix warmup_ratio window_mult
"""
"""Fields of schema 1 about training and bookkeeping, which the authors' reader refuses to do without a name as well."""
Combinations = Annotated[tuple[Layers, ...], Field(min_length=1), EachOnce]


class AoConfig(Sidecar):
    """The fields that say how an oracle reads; layers are counted from 0, and in percent of the depth."""

    describing: ClassVar[frozenset[str]] = frozenset(TRAINING.split())

    schema_version: StrictInt = 1
    model_name: Text
    layer_combinations: Combinations
    act_layer_combinations: Combinations
    hook_onto_layer: Index
    special_token: Text
    steering_coefficient: Factor
    prefix_template: Text
    lora_r: Count | None = None
    lora_alpha: Factor | None = None
    use_rslora: StrictBool = False


def read(path: Path, folder: Path, name: str) -> DecoderConfig:
    """Return the configuration that ``ao_config.json`` describes.

    Raises:
        DecoderConfigError: If it is of a newer schema, or a field is missing, unknown or contradicts another.
    """
    content = read_json(path, DecoderConfigError)
    fields = checked(AoConfig, content, path)
    check_schema(fields.schema_version, NEWEST_SCHEMA, path)
    d_model, n_layers = model_sizes(folder)
    _check_depths(fields, n_layers, path)
    layers, is_choice = _layers(fields.act_layer_combinations, n_layers, path)
    oracle = activation_oracle(
        name,
        target=fields.model_name,
        d_model=d_model,
        n_layers=n_layers,
        layers=layers,
        layer_choice="one" if is_choice else "all",
    )
    return oracle.changed(
        section=_section(fields.prefix_template, path),
        placeholder=fields.special_token,
        write_layer=fields.hook_onto_layer,
        gain=fields.steering_coefficient,
        lora_scaling=_scaling(fields),
    )


def _check_depths(fields: AoConfig, n_layers: int, path: Path) -> None:
    """Raise unless the layers are those at the depths in percent, as the authors round them."""
    expected = tuple(
        tuple(int(n_layers * depth / 100) for depth in combination) for combination in fields.layer_combinations
    )
    if expected != fields.act_layer_combinations:
        raise unreadable(
            path,
            f"act_layer_combinations {fields.act_layer_combinations} are not the layers at layer_combinations "
            f"{fields.layer_combinations} percent of {n_layers} blocks",
        )


def _layers(combinations: Combinations, n_layers: int, path: Path) -> tuple[tuple[int, ...], bool]:
    """Return the read layers, and whether one of them is read at a time; then the nearest to the middle is first."""
    if len(combinations) == 1:
        return combinations[0], False
    if any(len(combination) > 1 for combination in combinations):
        raise unreadable(path, f"it reads one of several sets of layers, {list(map(list, combinations))}")
    layers = {layer for (layer,) in combinations}
    return tuple(sorted(layers, key=lambda layer: (abs(layer - n_layers / 2), layer))), True


def _section(template: str, path: Path) -> str:
    """Return the text for one read layer; the template may write a line break as a backslash and an n."""
    section = template.replace("\\n", "\n").replace(SLOTS, "{slots}")
    if section.count("{slots}") != 1 or section.replace("{slots}", "").replace("{layer}", "").count("{"):
        raise unreadable(path, f"prefix_template is {template!r}; expected {{layer}} and {SLOTS!r} in a text")
    return section


def _scaling(fields: AoConfig) -> float | None:
    if fields.lora_r is None or fields.lora_alpha is None:
        return None
    return fields.lora_alpha / (math.sqrt(fields.lora_r) if fields.use_rslora else fields.lora_r)
