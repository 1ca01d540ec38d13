"""``python -m benchmarks.training --data DIR``: what the trainer saves.

A: a straightforward trainer: examples in the order drawn, the target run through all its blocks and its head, logits
for every token. B: ``Trainer``, which sorts by length, stops the target at the last read block, and computes logits
for answers alone. Same examples, same loss, same optimizer.
Goal: A takes at least twice as long as B. About ten minutes on two CPU cores.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import get_args

import click
import torch
from torch import Tensor, nn

from audit_lit import Decoder, Target
from audit_lit.chat.rendering import render
from audit_lit.data.rows import Example, Row
from audit_lit.data.splits import load_split
from audit_lit.decoder.prompt import build_prompt, collate
from audit_lit.hooks import inject, output_hook
from audit_lit.recipes import recipe_path
from audit_lit.training.recipe import AboutTraining, TrainingRecipe, load_training_recipe
from audit_lit.training.sources import Mixture
from audit_lit.training.trainer import Trainer
from benchmarks import models, pairs

GOAL = ">= 2"
Vectors = tuple[Tensor, list[int]]


@torch.no_grad()
def whole_target(target: Target, decoder: Decoder, examples: Sequence[Example]) -> Vectors:
    """Return the vectors at the read positions, and their number in each row, by a plain forward pass."""
    dialogs = [render(example.dialog, target.tokenizer) for example in examples]
    rows = [torch.tensor(dialog.token_ids) for dialog in dialogs]
    tokens = nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=target.tokenizer.pad_token_id or 0)
    mask = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    states = target.base(input_ids=tokens, attention_mask=mask, output_hidden_states=True).hidden_states
    positions = [list(decoder.config.select(dialog, "user")) for dialog in dialogs]
    resid = states[decoder.config.read_layers[0] + 1]
    return torch.cat([resid[row, places] for row, places in enumerate(positions)]), list(map(len, positions))


def plain_loss(target: Target, decoder: Decoder, examples: Sequence[Example]) -> Tensor:
    """Return the loss of one batch, with logits for every token of prompt and answer."""
    vectors, counts = whole_target(target, decoder, examples)
    prompts = [
        build_prompt(decoder.config, decoder.tokenizer, example.question, count)
        for example, count in zip(examples, counts, strict=True)
    ]
    batch = collate(prompts, [decoder.answer_ids(example.answer) for example in examples], decoder.pad)
    block = decoder.model.get_base_model().model.layers[decoder.config.write_layer]
    with output_hook(block, inject(decoder.write, vectors, batch.slots, torch.zeros(len(vectors), dtype=torch.long))):
        logits = decoder.model(input_ids=batch.token_ids, attention_mask=batch.attention_mask).logits
    labels = batch.token_ids.clone()
    labels[:, : -batch.n_answer] = -100
    labels[:, -batch.n_answer :][~batch.answer_mask] = -100
    return nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)


def plain_steps(trainer: Trainer, mixture: Mixture, n_steps: int) -> None:
    """Train on the first steps' examples in the order in which they were drawn."""
    size = trainer.recipe.batch_size
    for step in range(n_steps):
        examples = [mixture.draw(index) for index in range(step * size, (step + 1) * size)]
        loss = plain_loss(trainer.target, trainer.learner, examples)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trainer.parameters.values(), trainer.recipe.max_grad_norm)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()


def our_steps(trainer: Trainer, rows: list[Row], n_steps: int) -> None:
    """Train on the same examples as ``Trainer`` does."""
    steps = trainer.batches(rows).steps(0)
    for _ in range(n_steps):
        trainer.train_step(next(steps))


def small(recipe: TrainingRecipe, tiny: bool) -> TrainingRecipe:
    """Return the recipe without its start, its nulls, and the sources whose data are elsewhere."""
    elsewhere = ("user", "relation", "null", *get_args(AboutTraining))
    mixture = tuple(share for share in recipe.mixture if share.source not in elsewhere)
    changes = {"start": None, "mixture": mixture, "organisms": (), "precision": "fp32"}
    wire = recipe.wire.model_copy(update={"read_layers": (1,)}) if tiny else recipe.wire
    return recipe.model_copy(update={**changes, "wire": wire, **({"batch_size": 2, "buckets": 2} if tiny else {})})


@click.command(help=__doc__)
@pairs.options(repeats=2)
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path), help="LatentQA's layout.")
def main(repeats: int, tiny: bool, as_json: bool, data: Path | None) -> None:
    """Compare a straightforward trainer with ``Trainer``, over one bucket of the default recipe."""
    from audit_lit.testing.tiny_data import write_tiny_data

    recipe = small(load_training_recipe(recipe_path("smollm2-135m")), tiny)
    with tempfile.TemporaryDirectory() as folder:
        if data is None and not tiny:
            raise click.UsageError("--data is missing; expected a folder of LatentQA's layout, or --tiny.")
        if data is None:
            write_tiny_data(Path(folder) / "data")
        rows = load_split([data or Path(folder) / "data"], "train")
        target = models.load(tiny)
        decoder = models.untrained(target, read_layers=recipe.wire.read_layers)
        trainer = Trainer(recipe, target, decoder, Path(folder) / "run")
        decoder.model.train()
        slow = partial(plain_steps, trainer, Mixture(rows, recipe), recipe.buckets)
        fast = partial(our_steps, trainer, rows, recipe.buckets)
        case = f"{recipe.buckets} steps of {recipe.batch_size} examples"
        compared = [pairs.compare(case, slow, fast, repeats, GOAL, warm=False)]
    pairs.report("a straightforward trainer (A) / Trainer (B)", compared, as_json)


if __name__ == "__main__":
    main()
