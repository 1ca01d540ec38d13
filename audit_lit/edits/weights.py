"""Edits of the weights, for comparison: a LoRA on the target's own layers, trained on the decoder's loss.

This is the published way (LatentQA, arXiv 2412.08686, section 3.3 and appendix); its code trains layers 0 to the read
layer with Adam.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audit_lit import hub
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.rendering import render
from audit_lit.edits.objective import Objective, descend
from audit_lit.edits.prompt import with_prompt
from audit_lit.edits.recipe import EditSettings, Provenance
from audit_lit.errors import EditError
from audit_lit.files.paths import as_path
from audit_lit.files.reading import check_tensors
from audit_lit.files.writing import saved
from audit_lit.hooks import ActivationEdit, Hook, Origin, difference, edit_files, same_model
from audit_lit.hooks.edit import check_factor
from audit_lit.hooks.shown import edit_line, edit_table
from audit_lit.models.adapters import read_settings
from audit_lit.models.loading import boot_bridge, bridged_layers, is_offloaded, share_weights
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class WeightEdit:
    """A target with a LoRA on its layers; the target that it was made from is left as it was.

    Attributes:
        adapter: The plain Hugging Face model with its LoRA, which shares the weights of the base.
        target: The same parameters as a target of its own, to read, to ask about and to generate with.
        origin: Where the edit comes from.
    """

    adapter: PeftModel
    target: Target
    origin: Origin

    def __repr__(self) -> str:
        """Return goal, method, layers and target."""
        return edit_line("WeightEdit", self.origin)

    def _repr_html_(self) -> str:
        return edit_table("WeightEdit", self.origin)

    def scaled(self, factor: float) -> WeightEdit:
        """Return the edit with the update of its LoRA multiplied.

        Raises:
            EditError: If the factor is not finite.
        """
        check_factor(factor)
        origin = replace(self.origin, metrics={})  # they were measured at another strength
        scaled = _with_lora(self.target, self.adapter.peft_config["default"], origin)
        state = {name: parameter for name, parameter in self.adapter.named_parameters() if "lora_" in name}
        for name, parameter in scaled.adapter.named_parameters():
            if name in state:
                parameter.data = state[name].detach() * (factor if "lora_B" in name else 1.0)
        return scaled

    def save(self, path: str | Path) -> Path:
        """Write the adapter as PEFT reads it and ``edit.json``, and return the folder that holds them.

        Raises:
            EditError: If the folder cannot be written.
        """
        folder = as_path(path, EditError, "the folder of an edit")
        with saved(folder, EditError):
            edit_files.prepare_folder(folder, without=(edit_files.TENSORS, edit_files.CARD, *edit_files.ADAPTER))
            edit_files.write_data(folder, self.origin)
            self.adapter.save_pretrained(folder, save_embedding_layers=False)  # "auto" asks the Hub about the base
        return folder


Edit = ActivationEdit | WeightEdit


def load_edit(name: str | Path, target: Target, revision: str | None = None) -> Edit:
    """Read an edit of either kind, for a target.

    Args:
        name: A folder, or a Hub id such as ``org/name``.
        target: The model that the edit was made for.
        revision: The commit of a Hub edit; pin it for a result that can be repeated.

    Raises:
        EditError: If the edit is incomplete, or made for another target.
        HubError: If it cannot be fetched.
    """
    if not isinstance(target, Target):
        raise EditError(f"got a {type(target).__name__} for target; expected audit_lit.load_target(name).")
    folder = hub.resolve(name, revision=revision, kind="edit")
    origin, parts = edit_files.read_data(folder)
    if not parts:
        return _load_adapter(folder, origin, target)
    edit = ActivationEdit(edit_files.read_interventions(folder, parts), origin)
    edit.check(target.model)
    return with_prompt(edit, target).to(target.device)


def load_origin(name: str, revision: str | None = None) -> Origin:
    """Read where an edit comes from, without its tensors (see ``load_edit``)."""
    origin, _ = edit_files.read_data(hub.resolve(name, revision=revision, kind="edit"))
    return origin


def _load_adapter(folder: Path, origin: Origin, target: Target) -> WeightEdit:
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    _require_fingerprint(origin, target)
    weights, _ = (folder / name for name in edit_files.ADAPTER)
    try:
        edit = _with_lora(target, read_settings(folder), origin)
        tensors = load_file(weights)
        report = set_peft_model_state_dict(edit.adapter, tensors)
    except Exception as err:  # PEFT raises errors of any kind about a broken file
        raise EditError(f"{folder} holds no complete adapter ({err}); copy or fetch it again.") from err
    check_tensors(tensors, weights, EditError)
    if report.unexpected_keys:
        raise EditError(f"{weights} holds unexpected tensors, such as {report.unexpected_keys[0]!r}; fetch it again.")
    if missing := [name for name in report.missing_keys if "lora_" in name]:
        raise EditError(f"{weights} lacks tensors, such as {missing[0]!r}; copy or fetch it again.")
    return edit


def require_edit(edit: Any) -> None:
    """Raise for anything but an edit, such as the name of one."""
    if not isinstance(edit, Edit):
        name = repr(edit) if isinstance(edit, str) else "NAME"
        raise EditError(f"got {edit!r:.80} for an edit; expected audit_lit.load_edit({name}, target).")


def require_made_for(edit: Edit, target: Target) -> None:
    """Raise unless an edit was made for a target."""
    edit.check(target.model) if isinstance(edit, ActivationEdit) else _require_fingerprint(edit.origin, target)


def require_prompt(edit: Edit, target: Target, dialog: Dialog) -> None:
    """Raise if an edit changes positions of a prompt, and a dialog renders to another prompt."""
    token_ids = render(dialog, target.tokenizer).token_ids
    interventions = edit.interventions if isinstance(edit, ActivationEdit) else ()
    lengths = [intervention.n_prompt for intervention in interventions if intervention.positions is not None]
    if not lengths:
        return
    made_in = Provenance.of(edit.origin).dialogs
    same_prompt = len(made_in) != 1 or render(made_in[0], target.tokenizer).token_ids == token_ids
    if set(lengths) != {len(token_ids)} or not same_prompt:
        raise EditError(
            f"the edit changes positions of one prompt of {lengths[0]} tokens, and this is another, of "
            f"{len(token_ids)}; make an edit for this prompt."
        )


def _require_fingerprint(origin: Origin, target: Target) -> None:
    got = target.fingerprint()
    if origin.fingerprint is None or not same_model(origin.fingerprint, got):
        raise EditError(
            f"the edit was made for {origin.target!r}, and {target.name!r} is another model, with "
            f"{difference(origin.fingerprint or '', got)}; load that one."
        )


def edited_target(target: Target, edit: Edit) -> tuple[Target, list[Hook]]:
    """Return the target to run for an edit, and the hooks to have on it meanwhile."""
    return (edit.target, []) if isinstance(edit, WeightEdit) else (target, edit.fwd_hooks)


def train_weights(objective: Objective, layers: Sequence[int], origin: Origin, settings: EditSettings) -> WeightEdit:
    """Return the target with a LoRA on its layers up to the highest named, trained on the decoder's loss."""
    from peft import LoraConfig

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules=bridged_layers(_base_of(objective.target), objective.target.tokenizer),
        layers_to_transform=list(range(max(layers) + 1)),
    )
    edit = _with_lora(objective.target, config, origin, settings.seed)
    parameters = [parameter for name, parameter in edit.adapter.named_parameters() if "lora_" in name]
    descend([(objective.on(edit.target), parameters)], list, settings, lr=settings.step)
    return edit


def _with_lora(target: Target, config: Any, origin: Origin, seed: int = 0) -> WeightEdit:
    """Put a LoRA on a copy that shares the weights; ``boot_bridge`` takes a copy, too, since it rewires the model."""
    from peft import get_peft_model

    base = _base_of(target)
    with target.seeded(seed):
        adapter = get_peft_model(share_weights(base), copy.deepcopy(config)).eval()
    model = boot_bridge(adapter.base_model.model, Path(base.name_or_path), target.tokenizer)
    return WeightEdit(adapter, replace(target, model=model), origin)


def _base_of(target: Target) -> PreTrainedModel:
    if target.base is None:
        raise EditError(
            "method 'weights' needs the plain model behind a target, which this one lacks; use load_target."
        )
    if is_offloaded(target.base):
        raise EditError(
            "method 'weights' needs weights on devices, and this target's are offloaded; use another method, or load "
            "the target in bfloat16 or split over GPUs."
        )
    return target.base
