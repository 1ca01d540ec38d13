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
from audit_lit.errors import TrainingError
from audit_lit.evaluation.dialogs import read_dialogs
from audit_lit.models.activations import Activations
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import EDGES, slots_of
from audit_lit.models.target import Target
from audit_lit.training.sources import Mixture

Learner = Decoder | TextBaseline
"""The model that is trained: to answer from activations, or from the visible text."""


@dataclass(frozen=True)
class Batch:
    """Examples of one part of a step: dialogs as the learner gets them, a question about each, and its answer."""

    inputs: Activations | list[str]
    questions: list[str]
    answers: list[str]


class Batches:
    """The steps of a run, in an order that depends on the recipe alone."""

    def __init__(self, mixture: Mixture, target: Target, learner: Learner, *, rank: int = 0, world: int = 1) -> None:
        """Deal each step's examples out to ``world`` processes, of which this one is number ``rank``."""
        self.mixture, self.target, self.learner, self.rank, self.world = mixture, target, learner, rank, world
        self.recipe = mixture.recipe
        if self.recipe.batch_size % (world * self.recipe.accumulate):
            raise TrainingError(
                f"batch_size={self.recipe.batch_size} cannot be split over {world} processes and "
                f"{self.recipe.accumulate} parts (accumulate); choose a multiple of {world * self.recipe.accumulate}."
            )

    def steps(self, first: int) -> Iterator[list[Batch]]:
        """Yield the parts of each step from ``first`` on.

        The examples of several steps are drawn at once and sorted by length: little padding, same sum.
        """
        n_steps, step, share = self.recipe.n_steps, first, self.recipe.batch_size // self.world
        size = share // self.recipe.accumulate
        while step < n_steps:
            bucket, n_done = divmod(step, self.recipe.buckets)
            groups = self._groups(bucket)[n_done:][: n_steps - step]
            mine = [example for group in groups for example in group[self.rank :: self.world]]
            inputs = self._inputs(mine)
            for start in range(0, len(mine), share):
                step += 1
                parts = [range(part, part + size) for part in range(start, start + share, size)]
                yield [self._part(mine, inputs, rows, step) for rows in parts]

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

    def _part(self, examples: list[Example], inputs: Activations | list[str], rows: range, step: int) -> Batch:
        chosen = [examples[row] for row in rows]
        part = [inputs[row] for row in rows] if isinstance(inputs, list) else inputs.rows(rows)
        if isinstance(part, Activations) and self.learner.config.layer_choice == "one":
            part = part.for_layer(part.layers[step % len(part.layers)])  # every layer in turn
        return Batch(part, [example.question for example in chosen], [example.answer for example in chosen])

    @torch.no_grad()
    def _inputs(self, examples: list[Example]) -> Activations | list[str]:
        if isinstance(self.learner, TextBaseline):
            return [render(example.dialog, self.target.tokenizer).visible_text for example in examples]
        # In the target's own precision, as when it is audited: autocast turns padding into NaN in eager attention.
        dialogs, last_of_text = [example.dialog for example in examples], [example.last_of_text for example in examples]
        activations = read_dialogs(self.target, self.learner.config, dialogs, last_of_text)
        for row, example in enumerate(examples):
            if example.null:
                (kind, seed), true = example.null, activations.rows([row])
                null = null_input(kind, true, self.learner.write, others=self._others, seed=seed)
                activations.resid[row] = null.resid[0]
            if example.organisms:
                activations.resid[row] = self._with_differences(example, activations.rows([row])).resid[0]
        return activations

    def _with_differences(self, example: Example, activations: Activations) -> Activations:
        """Return a dialog's activations with what training changed in organisms."""
        config = self.learner.config
        rendered = config.render(example.dialog, self.target.tokenizer)
        slots = slots_of(rendered, config.select(rendered, "user"))
        slots = torch.nn.functional.pad(slots, (0, activations.mask.shape[1] - len(slots)))
        for organism, amplitude in example.organisms:
            difference = self._differences[organism].at(config.read_layers, EDGES)
            activations = difference.added_to(activations, slots, amplitude)
        return activations

    @cached_property
    def _differences(self) -> dict[str, Difference]:
        library = self.mixture.library
        return {known.id: row for known, row in zip(library.known, library.differences, strict=True)} if library else {}

    @cached_property
    def _others(self) -> Activations:
        """Activations of dialogs that depend on the recipe alone, whatever else is in the batch."""
        return read_dialogs(self.target, self.learner.config, self.mixture.statistics_dialogs())
