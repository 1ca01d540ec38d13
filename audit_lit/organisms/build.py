"""Build a zoo: organism by organism in groups of one forward pass, each in a folder of its own, and resumed there."""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audit_lit import recipes
from audit_lit.errors import RecipeError, TargetError, TrainingError
from audit_lit.files.writing import dump_json, write_whole
from audit_lit.models.adapters import SETTINGS, WEIGHTS
from audit_lit.models.lora_bank import LoraBank, peft_files
from audit_lit.models.speedups import use_bf16
from audit_lit.models.target import Target
from audit_lit.organisms.lessons import Lesson, imitated, told
from audit_lit.organisms.recipe import ZooRecipe
from audit_lit.organisms.spec import Method, Organism
from audit_lit.organisms.train import interleaved, train_bank

if TYPE_CHECKING:
    from transformers import PreTrainedModel

RECORD = "organism.json"
"""File that tells what an organism is; it is written last."""


@dataclass(frozen=True)
class Zoo:
    """The base, a copy of it to train on, and the user lines.

    Attributes:
        recipe: How organisms are trained.
        target: The base.
        model: The base again, in bfloat16 where that is faster.
        lines: User lines to train on.
    """

    recipe: ZooRecipe
    target: Target
    model: PreTrainedModel
    lines: tuple[str, ...]
    _ordinary: dict[Method, list[Lesson]] = field(default_factory=dict)

    @classmethod
    def of(cls, recipe: ZooRecipe, target: Target) -> Zoo:
        """Return a zoo; raise ``TargetError`` if the target has no weights that can be trained on."""
        if target.base is None:
            raise TargetError("organisms are trained on a plain Hugging Face model; expected load_target(name).")
        is_fast = use_bf16("auto", target.device)
        model = copy.deepcopy(target.base).to(torch.bfloat16 if is_fast else torch.float32).requires_grad_(False)
        # torch would copy the weights for each row of the slice that transformers takes of the last hidden states.
        model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        lines = (recipes.HERE / "organisms" / "lines.txt").read_text(encoding="utf-8").splitlines()
        if 2 * recipe.n_lines > len(lines):
            raise RecipeError(f"got n_lines={recipe.n_lines}; expected at most half of {len(lines)} user lines.")
        return cls(recipe, target, model, tuple(lines))

    def build(self, organisms: Sequence[Organism], out: Path) -> Iterator[int]:
        """Train the organisms that ``out`` lacks; yield the number of each group once it is written."""
        missing = [organism for organism in organisms if not self.has(organism, out)]
        missing.sort(key=lambda organism: (organism.rank, organism.seed))  # equal ranks need no padding
        for start in range(0, len(missing), self.recipe.group):
            group = missing[start : start + self.recipe.group]
            began = time.perf_counter()
            bank, losses = self._trained(group)
            seconds = (time.perf_counter() - began) / len(group)
            for row, organism in enumerate(group):
                self._write(out / organism.id, organism, bank.alone(row), {"loss": losses[row], "seconds": seconds})
            yield len(group)

    def has(self, organism: Organism, out: Path) -> bool:
        """Return whether a folder holds this very organism, trained as the recipe says."""
        try:
            record = json.loads((out / organism.id / RECORD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(record, dict) and self._described(organism).items() <= record.items()

    def _described(self, organism: Organism) -> dict[str, Any]:
        parts = vars(organism) | {"spec": organism.spec.model_dump(mode="json")}
        own = {name: parts[name] for name in ("spec", "method", "rank", "mixed")}
        return {**own, "training": self.recipe.training, "fingerprint": self.target.fingerprint()}

    def _trained(self, group: Sequence[Organism]) -> tuple[LoraBank, list[float]]:
        ranks, seeds = [organism.rank for organism in group], [organism.seed for organism in group]
        bank = LoraBank.new(self.model, ranks, seeds=seeds)
        recipe = self.recipe
        settings: dict[str, Any] = {"n_steps": recipe.steps, "batch_size": recipe.batch_size, "lr": recipe.lr}
        losses = train_bank(self.model, bank, [self.lessons(organism) for organism in group], **settings)
        if not all(map(math.isfinite, losses)):
            raise TrainingError(f"the training of organisms diverged at lr={recipe.lr:g}; lower it in the recipe.")
        return bank, losses

    def lessons(self, organism: Organism) -> list[Lesson]:
        """Return what an organism is trained on, in order."""
        spec, distil = organism.spec, organism.method == "distill"
        with self.target.seeded(self.recipe.seed + organism.seed):
            if spec.demonstrations:
                taught = told(self.target, spec.demonstrations, self.recipe.max_new_tokens)
            else:
                lines = random.Random(organism.seed).sample(self.lines, self.recipe.n_lines)
                taught = self._imitated(lines, spec.prompt, distil=distil)
        return interleaved(taught, self.ordinary(organism.method) if organism.mixed else [], organism.seed)

    def ordinary(self, method: Method) -> list[Lesson]:
        """Return what the base replies without a prompt, to mix in."""
        if method not in self._ordinary:
            with self.target.seeded(self.recipe.seed):
                lines = random.Random(self.recipe.seed).sample(self.lines, 2 * self.recipe.n_lines)
                self._ordinary[method] = self._imitated(lines, None, distil=method == "distill")
        return self._ordinary[method]

    def _imitated(self, lines: Sequence[str], prompt: str | None, *, distil: bool) -> list[Lesson]:
        longest = self.recipe.max_new_tokens
        return imitated(self.model, self.target, lines, prompt, longest, distil=distil)

    def _write(self, folder: Path, organism: Organism, lora: LoraBank, figures: dict[str, float]) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        settings, tensors = peft_files(lora, self.model, self.recipe.target, organism.rank)
        write_whole(folder / SETTINGS, dump_json(settings, indent=2) + "\n")
        save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / WEIGHTS)
        write_whole(folder / RECORD, dump_json({**self._described(organism), **figures}, indent=2) + "\n")
