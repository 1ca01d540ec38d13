"""The published way, for comparison: a LoRA on the target's own layers, trained on the decoder's loss.

(LatentQA, arXiv 2412.08686, section 3.3 and appendix; its code trains layers 0 to the read layer with Adam.)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from audit_lit import hub
from audit_lit.chat.dialog import Dialog
from audit_lit.chat.rendering import render
from audit_lit.edits.objective import Objective, descend
from audit_lit.edits.provenance import Provenance
from audit_lit.edits.recipe import EditSettings
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook, Origin
from audit_lit.hooks.edit_files import ADAPTER, CARD, TENSORS, clear, read_origin, write_origin
from audit_lit.models.loading import boot_bridge, share_weights
from audit_lit.models.target import Target

if TYPE_CHECKING:
    from peft import PeftModel

MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, eq=False)
class WeightEdit:
    """A target with a LoRA on its layers; the target that it was made from is untouched.

    Attributes:
        adapter: The plain Hugging Face model with its LoRA, which shares the base's weights.
        target: The same parameters as a target of its own, to read, ask about and let speak.
        origin: Where it comes from.
    """

    adapter: PeftModel
    target: Target
    origin: Origin

    def scaled(self, factor: float) -> WeightEdit:
        """Return the edit with its LoRA's update multiplied.

        Raises:
            EditError: If the factor is not finite.
        """
        if not math.isfinite(factor):
            raise EditError(f"got a factor of {factor}; expected a finite number, such as -1 for the opposite.")
        origin = replace(self.origin, metrics={})  # measured at another strength
        made = _with_lora(self.target, self.adapter.peft_config["default"], origin)
        state = {name: value for name, value in self.adapter.named_parameters() if "lora_" in name}
        for name, parameter in made.adapter.named_parameters():
            if name in state:
                parameter.data = state[name].detach() * (factor if "lora_B" in name else 1.0)
        return made

    def save(self, path: str | Path) -> Path:
        """Write a folder with the adapter as PEFT reads it, and ``edit.json``.

        Raises:
            EditError: If it cannot be written.
        """
        folder = Path(path)
        try:
            clear(folder, (TENSORS, CARD))
            self.adapter.save_pretrained(folder)
            write_origin(folder, self.origin)
        except (OSError, SafetensorError) as err:
            raise EditError(f"the edit could not be written to {folder} ({err}); name a folder that can be.") from err
        return folder


Edit = ActivationEdit | WeightEdit


def load_edit(name: str | Path, target: Target, revision: str | None = None) -> Edit:
    """Read an edit of either kind, for a target: one of ``ActivationEdit``, or one of ``WeightEdit``.

    Raises:
        EditError: If it is incomplete, or made for another target.
        HubError: If it cannot be fetched.
    """
    folder = hub.resolve(str(name), revision=revision, kind="edit")
    origin, interventions = read_origin(folder)
    if not interventions:
        return _load_adapter(folder, origin, target)
    found = ActivationEdit.load(folder)
    found.check(target.model)
    return found.to(target.device)


def load_origin(name: str, revision: str | None = None) -> Origin:
    """Read where an edit comes from, without its tensors (see ``load_edit``)."""
    return read_origin(hub.resolve(name, revision=revision, kind="edit"))[0]


def _load_adapter(folder: Path, origin: Origin, target: Target) -> WeightEdit:
    from peft import PeftConfig, set_peft_model_state_dict
    from safetensors.torch import load_file

    _require_fingerprint(origin, target)
    weights, _ = (folder / name for name in ADAPTER)
    try:
        made = _with_lora(target, PeftConfig.from_pretrained(str(folder)), origin)
        report = set_peft_model_state_dict(made.adapter, load_file(weights))
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as err:
        raise EditError(f"{folder} holds no complete adapter ({err}); copy or fetch it again.") from err
    if report.unexpected_keys:
        raise EditError(f"{weights} holds tensors that have no place, such as {report.unexpected_keys[0]!r}.")
    if missing := [name for name in report.missing_keys if "lora_" in name]:
        raise EditError(f"{weights} lacks tensors, such as {missing[0]!r}; copy or fetch it again.")
    return made


def require_made_for(edit: Edit, target: Target) -> None:
    """Raise unless an edit was made for a target.

    Raises:
        EditError: If it was made for another one.
    """
    edit.check(target.model) if isinstance(edit, ActivationEdit) else _require_fingerprint(edit.origin, target)


def require_prompt(edit: Edit, target: Target, dialog: Dialog) -> None:
    """Raise if an edit changes positions of another prompt than this dialog's.

    Raises:
        EditError: If it does.
    """
    token_ids = render(dialog, target.tokenizer).token_ids
    changes = edit.interventions if isinstance(edit, ActivationEdit) else ()
    placed = [change for change in changes if change.positions is not None]
    made_in = Provenance.of(edit.origin).dialogs
    same_length = all(change.n_prompt == len(token_ids) for change in placed)
    same_prompt = len(made_in) != 1 or render(made_in[0], target.tokenizer).token_ids == token_ids
    if placed and not (same_length and same_prompt):
        raise EditError(
            f"the edit changes positions of one prompt of {placed[0].n_prompt} tokens, and this is another, of "
            f"{len(token_ids)}; make one for this prompt."
        )


def _require_fingerprint(origin: Origin, target: Target) -> None:
    if origin.fingerprint != target.fingerprint():
        raise EditError(
            f"the edit was made for {origin.target!r}, and {target.name!r} is another model; load that one."
        )


def edited_target(target: Target, edit: Edit) -> tuple[Target, list[Hook]]:
    """Return the target to run, and the hooks to have on it."""
    return (edit.target, []) if isinstance(edit, WeightEdit) else (target, edit.fwd_hooks)


def train_weights(objective: Objective, layers: Sequence[int], origin: Origin, settings: EditSettings) -> WeightEdit:
    """Return the target with a LoRA on its layers up to the highest named, fitted to the decoder's loss.

    Raises:
        EditError: If the target has no plain Hugging Face model behind it.
    """
    from peft import LoraConfig

    config = LoraConfig(
        r=settings.rank,
        lora_alpha=2 * settings.rank,
        target_modules=list(MODULES),
        layers_to_transform=list(range(max(layers) + 1)),
    )
    made = _with_lora(objective.target, config, origin, settings.seed)
    parameters = [parameter for name, parameter in made.adapter.named_parameters() if "lora_" in name]
    descend(
        [(objective.on(made.target), parameters)],
        list,
        steps=settings.steps,
        lr=settings.step,
        batch_size=settings.batch_size,
        seed=settings.seed,
    )
    return made


def _with_lora(target: Target, config: Any, origin: Origin, seed: int = 0) -> WeightEdit:
    """Put a LoRA on a copy that shares the weights; ``boot`` takes another copy of both, which it may rewire."""
    from peft import get_peft_model

    if target.base is None:
        raise EditError("method 'weights' needs a target of load_target, which has a plain model behind it.")
    with target.seeded(seed):
        adapter = get_peft_model(share_weights(target.base), copy.deepcopy(config)).eval()
    model = boot_bridge(adapter.base_model.model, Path(target.base.name_or_path), target.tokenizer)
    return WeightEdit(adapter, replace(target, model=model), origin)
