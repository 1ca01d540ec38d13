"""Batches: every example once, the same whatever is beside it, dealt out to parts, processes and layers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.training import batches, small_recipe

pytestmark = pytest.mark.usefixtures("unmeasured")


def test_batches_hold_every_example_once_and_similar_lengths(folders: tuple[Path, Path]) -> None:
    whole = batches(folders, small_recipe(folders))
    seen, spreads = [], []
    for (batch,) in whole.steps(0):
        assert len(batch.inputs) == len(batch.questions) == len(batch.answers) == 4
        lengths = [len(q) + len(a) for q, a in zip(batch.questions, batch.answers, strict=True)]
        seen += zip(batch.questions, batch.answers, strict=True)
        spreads.append(max(lengths) - min(lengths))
    drawn = [whole.mixture.draw(index) for index in range(32)]
    assert len(seen) == 40 and Counter(seen[:32]) == Counter((e.question, e.answer) for e in drawn)
    assert np.mean(spreads) < np.ptp([len(e.question) + len(e.answer) for e in drawn]) / 2


def test_sampled_layers_are_read_in_turn_and_trained_together(folders: tuple[Path, Path], tmp_path: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit.training.run import train

    several = {"read_layers": (2, 1), "layer_choice": "one", "section": "Layer {layer}:{slots}"}
    recipe = small_recipe(folders, wire=small_recipe(folders).wire.model_copy(update=several))
    parts = [batch.inputs for (batch,) in batches(folders, recipe).steps(0)]
    assert [activations.layers for activations in parts[:4]] == [(1,), (2,), (1,), (2,)]
    folder = train(recipe, folders[1], tmp_path)
    weight = load_file(folder / "projection.safetensors")["weight"]
    assert not any(torch.allclose(matrix, torch.eye(32)) for matrix in weight) and not torch.allclose(*weight)


def test_processes_and_parts_share_a_step(folders: tuple[Path, Path]) -> None:
    from audit_lit.errors import TrainingError

    recipe = small_recipe(folders)
    whole = [batch for (batch,) in batches(folders, recipe).steps(3)]
    split = [
        list(batches(folders, recipe.model_copy(update={"accumulate": 2}), rank=rank, world=2).steps(3))
        for rank in range(2)
    ]
    assert len(whole) == len(split[0]) == 7
    for step, batch in enumerate(whole):
        parts = [part for rank in range(2) for part in split[rank][step]]
        assert len(parts) == 4 and sorted(part.answers[0] for part in parts) == sorted(batch.answers)
        row = batch.questions.index(parts[0].questions[0])
        if batch.questions.count(batch.questions[row]) == 1:
            torch.testing.assert_close(parts[0].inputs.resid[0], batch.inputs.resid[row], rtol=1e-3, atol=1e-4)
    with pytest.raises(TrainingError, match=r"batch_size=4 cannot be split over 3 processes.*multiple of 3"):
        batches(folders, recipe, world=3)


@pytest.mark.parametrize("kind", ["random", "mean"])
def test_null_examples_depend_on_nothing_beside_them(folders: tuple[Path, Path], kind: str) -> None:
    from audit_lit.data.rows import Example

    dialog = ({"role": "system", "content": "Be x."}, {"role": "user", "content": "Hello there"})
    other = ({"role": "user", "content": "What a long line this is!"},)
    examples = [Example(dialog, "Who?", "x", "l", null=null) for null in (None, (kind, 3), (kind, 4), (kind, 3))]
    true, first, second, again = batches(folders, small_recipe(folders))._inputs(examples).resid
    assert torch.equal(first, again) and not torch.allclose(first, true)
    assert torch.allclose(first, second) == (kind == "mean")
    whole = batches(folders, small_recipe(folders))
    torch.testing.assert_close(true, whole._inputs(examples[:1]).resid[0])
    beside = whole._inputs([Example(other, "Who?", "y", "l"), examples[1]]).resid
    torch.testing.assert_close(beside[1], first, rtol=1e-4, atol=1e-5)


def test_a_whole_run_of_nothing_resumes_exactly(folders: tuple[Path, Path]) -> None:
    null = tuple(share for share in small_recipe(folders).mixture if share.source == "null")
    recipe = small_recipe(folders, mixture=null)
    whole = [batch for (batch,) in batches(folders, recipe).steps(0)]
    resumed = [batch for (batch,) in batches(folders, recipe).steps(2)]
    for one, other in zip(whole[2:], resumed, strict=True):
        torch.testing.assert_close(one.inputs.resid, other.inputs.resid, rtol=1e-4, atol=1e-5)
