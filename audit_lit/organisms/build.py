"""Build a zoo: organism by organism in groups of one forward pass, each in a folder of its own, and resumed there."""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from audit_lit import recipes
from audit_lit.errors import RecipeError, TargetError, TrainingError
from audit_lit.files.writing import dump_json, write_whole
from audit_lit.models.adapters import SETTINGS, WEIGHTS
from audit_lit.models.difference import Difference
from audit_lit.models.lora_bank import LoraBank, peft_files
from audit_lit.models.speedups import use_bf16
from audit_lit.models.target import Target
from audit_lit.organisms.lessons import Lesson, imitated, told
from audit_lit.organisms.library import Library, known_as
from audit_lit.organisms.preferences import preferred
from audit_lit.organisms.recipe import ZooRecipe
from audit_lit.organisms.spec import DIFFERENCE, RECORD, Method, Organism
from audit_lit.organisms.train import Taught, interleaved, train_bank
from audit_lit.organisms.whole import trained_whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
        for group in groups(missing, self.recipe.group):
            began = time.perf_counter()
            trained, losses = self._trained_whole(group) if group[0].method == "full" else self._trained(group)
            seconds = (time.perf_counter() - began) / len(group)
            for row, organism in enumerate(group):
                self._write(out / organism.id, organism, trained[row], {"loss": losses[row], "seconds": seconds})
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

    def _trained(self, group: Sequence[Organism]) -> tuple[list[LoraBank], list[float]]:
        ranks, seeds = [organism.rank for organism in group], [organism.seed for organism in group]
        bank = LoraBank.new(self.model, ranks, seeds=seeds)
        recipe = self.recipe
        settings: dict[str, Any] = {"n_steps": recipe.steps, "batch_size": recipe.batch_size, "lr": recipe.lr}
        losses = train_bank(self.model, bank, [self.lessons(organism) for organism in group], **settings)
        require_finite(losses, recipe.lr)
        return [bank.alone(row) for row in range(len(group))], losses

    def _trained_whole(self, group: Sequence[Organism]) -> tuple[list[Difference], list[float]]:
        results = [trained_whole(self.target, self.lessons(organism), self.recipe) for organism in group]
        require_finite([loss for _, loss in results], self.recipe.lr)
        return [difference for difference, _ in results], [loss for _, loss in results]

    def lessons(self, organism: Organism) -> list[Taught]:
        """Return what an organism is trained on, in order."""
        spec, distil, longest = organism.spec, organism.method == "distill", self.recipe.max_new_tokens
        with self.target.seeded(self.recipe.seed + organism.seed):
            if spec.demonstrations:
                taught = told(self.target, spec.demonstrations, longest)
            else:
                lines = random.Random(organism.seed).sample(self.lines, self.recipe.n_lines)
                taught = self._imitated(lines, spec.prompt, distil=distil)
            if organism.method == "dpo":
                return interleaved(preferred(self.model, self.target, taught, longest), [], organism.seed)
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

    def _write(
        self, folder: Path, organism: Organism, trained: LoraBank | Difference, figures: dict[str, float]
    ) -> None:
        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        record = {**self._described(organism), **figures}
        if isinstance(trained, Difference):
            known = (known_as(folder.name, record["spec"], record),)
            Library(known, (trained,), self.target.name, self.target.fingerprint()).save(folder / DIFFERENCE)
        else:
            settings, tensors = peft_files(trained, self.model, self.recipe.target, organism.rank)
            write_whole(folder / SETTINGS, dump_json(settings, indent=2) + "\n")
            save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, folder / WEIGHTS)
        write_whole(folder / RECORD, dump_json(record, indent=2) + "\n")


def groups(organisms: Sequence[Organism], size: int) -> Iterator[list[Organism]]:
    """Yield the organisms that are trained together: of one sort of lessons, and mostly of one rank, without padding.

    Those of which all weights are trained are alone.
    """

    def sort_of(organism: Organism) -> tuple[bool, bool]:
        return organism.method == "full", organism.method == "dpo"

    ordered = sorted(organisms, key=lambda organism: (sort_of(organism), organism.rank, organism.seed))
    for (whole, _), alike in groupby(ordered, sort_of):
        while group := list(islice(alike, 1 if whole else size)):
            yield group


def require_finite(losses: Sequence[float], lr: float) -> None:
    """Raise ``TrainingError`` unless all losses are numbers."""
    if not all(map(math.isfinite, losses)):
        raise TrainingError(f"the training of organisms diverged at lr={lr:g}; lower it in the recipe.")
