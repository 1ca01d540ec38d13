"""Batches of a training run: drawn, read from the target, and sorted by length, for one of several processes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch

from audit_lit.answers.controls import null_input
from audit_lit.chat.rendering import render
from audit_lit.data.rows import Example
from audit_lit.decoder.decoder import Decoder
from audit_lit.decoder.text_baseline import TextBaseline
from audit_lit.errors import RecipeError
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.models.activations import Activations
from audit_lit.models.target import Target
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.sources import Mixture

Learner = Decoder | TextBaseline
"""What can be trained: from activations, or from the visible text."""
STATISTICS_DIALOGS = 256
"""For the mean and spread of activations; numbered below zero, so that no step has them."""


@dataclass(frozen=True)
class Batch:
    """Examples, and what the decoder is given about them: activations, or texts for one that reads text."""

    given: Activations | list[str]
    questions: list[str]
    answers: list[str]


class Batches:
    """The steps of a run, in an order that depends on the recipe alone."""

    def __init__(self, mixture: Mixture, target: Target, learner: Learner, *, rank: int = 0, world: int = 1) -> None:
        """Deal each step's examples out to ``world`` processes; this one is number ``rank``.

        Raises:
            RecipeError: If a step cannot be dealt out evenly.
        """
        self.mixture, self.target, self.learner, self.rank, self.world = mixture, target, learner, rank, world
        self.recipe: TrainingRecipe = mixture.recipe
        if self.recipe.batch_size % (world * self.recipe.accumulate):
            raise RecipeError(
                f"batch_size={self.recipe.batch_size} cannot be split over {world} processes and "
                f"{self.recipe.accumulate} parts (accumulate); choose a multiple of {world * self.recipe.accumulate}."
            )

    def steps(self, first: int) -> Iterator[list[Batch]]:
        """Yield the parts of each step from ``first`` on.

        The examples of several steps are drawn at once and sorted by length: little padding, same sum.
        """
        size, n_steps, step = self.recipe.batch_size, self.recipe.n_steps, first
        while step < n_steps:
            bucket, skipped = divmod(step, self.recipe.buckets)
            groups = self._groups(bucket)[skipped:][: n_steps - step]
            mine = [example for group in groups for example in group[self.rank :: self.world]]
            given = self._given(mine)
            share = size // self.world
            for number in range(len(groups)):
                step += 1
                yield [self._part(mine, given, number * share + part, step) for part in self._parts(share)]

    def _groups(self, bucket: int) -> list[list[Example]]:
        size, n = self.recipe.batch_size, self.recipe.buckets
        examples = [self.mixture.draw(index) for index in range(bucket * n * size, (bucket + 1) * n * size)]
        examples.sort(key=self._length)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(bucket)).tolist()
        return [examples[group * size : (group + 1) * size] for group in order]

    def _length(self, example: Example) -> int:
        """Return about how long the decoder's input will be, in characters."""
        text = example.dialog if isinstance(self.learner, TextBaseline) else ()
        return len(example.question) + len(example.answer) + sum(len(message["content"]) for message in text)

    def _parts(self, share: int) -> range:
        return range(0, share, share // self.recipe.accumulate)

    def _part(self, examples: list[Example], given: Activations | list[str], start: int, step: int) -> Batch:
        rows = range(start, start + self.recipe.batch_size // self.world // self.recipe.accumulate)
        chosen = [examples[row] for row in rows]
        part = [given[row] for row in rows] if isinstance(given, list) else given.rows(rows)
        if isinstance(part, Activations) and self.learner.config.layer_choice == "one":
            part = part.for_layer(part.layers[step % len(part.layers)])  # every layer in turn
        return Batch(part, [example.question for example in chosen], [example.answer for example in chosen])

    @torch.no_grad()
    def _given(self, examples: list[Example]) -> Activations | list[str]:
        if isinstance(self.learner, TextBaseline):
            return [render(example.dialog, self.target.tokenizer).visible_text for example in examples]
        # In the target's own precision, as when it is audited: autocast turns padding into NaN in eager attention.
        dialogs, ends = [example.dialog for example in examples], [example.last_of_text for example in examples]
        found = read_dialogs(self.target, self.learner.config, dialogs, ends)
        for row, example in enumerate(examples):
            if example.null:
                kind, seed = example.null
                given = null_input(kind, found.rows([row]), self.learner.write, others=self._others, seed=seed)
                found.resid[row] = given.resid[0]
        return found

    @cached_property
    def _others(self) -> Activations:
        """Dialogs that depend on the recipe alone, whatever else is in the batch."""
        dialogs = [self.mixture.draw(-1 - index).dialog for index in range(STATISTICS_DIALOGS)]
        return read_dialogs(self.target, self.learner.config, dialogs)
