"""The published way, for comparison: a LoRA on the target's own layers, trained on the decoder's loss.

(LatentQA, arXiv 2412.08686, section 3.3 and appendix; its code trains layers 0 to the read layer with Adam.)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audit_lit.edits.objective import Objective, descend
from audit_lit.errors import EditError
from audit_lit.hooks import ActivationEdit, Hook, HookedModel, Origin
from audit_lit.target import Target, boot, share

if TYPE_CHECKING:
    from peft import PeftModel

DATA = "edit.json"
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

    @contextmanager
    def on(self, model: HookedModel) -> Iterator[HookedModel]:
        """Give the edited model; unlike ``ActivationEdit.on``, the one that is given stays as it is."""
        del model
        yield self.target.model

    def scaled(self, factor: float) -> WeightEdit:
        """Return the edit with its LoRA's update multiplied."""
        made = _with_lora(self.target, self.adapter.peft_config["default"], self.origin)
        state = {name: value for name, value in self.adapter.named_parameters() if "lora_" in name}
        for name, parameter in made.adapter.named_parameters():
            if name in state:
                parameter.data = state[name].detach() * (factor if "lora_B" in name else 1.0)
        return made

    def save(self, path: str | Path) -> Path:
        """Write a folder with the adapter as PEFT reads it, and ``edit.json``."""
        folder = Path(path)
        self.adapter.save_pretrained(folder)
        (folder / DATA).write_text(json.dumps({"origin": asdict(self.origin)}, indent=2) + "\n", encoding="utf-8")
        return folder


Edit = ActivationEdit | WeightEdit


def edited(target: Target, edit: Edit) -> tuple[Target, list[Hook]]:
    """Return the target to run, and the hooks to have on it."""
    return (edit.target, []) if isinstance(edit, WeightEdit) else (target, edit.fwd_hooks)


def train_weights(
    objective: Objective, layers: Sequence[int], origin: Origin, *, rank: int, lr: float, steps: int, seed: int
) -> WeightEdit:
    """Return the target with a LoRA on some layers that makes the decoder read what is wanted.

    Raises:
        EditError: If the target has no plain Hugging Face model behind it.
    """
    from peft import LoraConfig

    torch.manual_seed(seed)
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=list(MODULES), layers_to_transform=list(range(max(layers) + 1))
    )
    made = _with_lora(objective.target, config, origin)
    own = [parameter for name, parameter in made.adapter.named_parameters() if "lora_" in name]
    descend([(replace(objective, target=made.target), own)], list, steps=steps, lr=lr, seed=seed)
    return made


def _with_lora(target: Target, config: Any, origin: Origin) -> WeightEdit:
    """Put a LoRA on a copy that shares the weights; ``boot`` takes another copy of both, which it may rewire."""
    from peft import get_peft_model

    if target.base is None:
        raise EditError("method 'weights' needs a target of load_target, which has a plain model behind it.")
    adapter = get_peft_model(share(target.base), copy.deepcopy(config)).eval()
    model = boot(adapter.base_model.model, Path(target.base.name_or_path), target.tokenizer)
    return WeightEdit(adapter, replace(target, model=model), origin)
