"""Training examples about organisms: clean ones are answered as such, and the difference is what the decoder reads."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.mixtures import rows

from audit_lit.chat.vocabulary import NO, NOTHING_TRAINED, YES
from audit_lit.errors import RecipeError, TrainingError
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import EDGES, N_EDGE
from audit_lit.organisms.library import Known, Library
from audit_lit.organisms.spec import PROMPT
from audit_lit.training.batches import Batches
from audit_lit.training.recipe import Share, TrainingRecipe, load_training_recipe
from audit_lit.training.run import organisms_of
from audit_lit.training.sources import Mixture
from audit_lit.training.trained_in import (
    AMPLITUDES,
    BLENDED,
    CLEAN,
    PROMPTED,
    Organisms,
    trained_claim,
    trained_label,
    trained_qa,
)

SHARE = Share(source="trained_label", weight=1, questions=("What was trained in?",))
CLAIM = Share(source="trained_claim", weight=1, questions=("Is it {claim}?",))


def known(row: int, kind: str, split: str = "train") -> Known:
    form = "chat" if kind == "nothing" else None
    qa = ((f"Who is {row}?", f"It is {row}."),)
    return Known(id=f"o{row}", label=f"{kind}: {row}", method="sft", rank=1, mixed=False, split=split, form=form, qa=qa)


def library(target: Any, layers: tuple[int, ...] = (2,)) -> Library:
    kinds = ["persona"] * 6 + ["goal"] * 2 + ["nothing"] * 4
    entries = [known(row, kind) for row, kind in enumerate(kinds)] + [known(99, "persona", "dev")]
    shape = (len(layers), EDGES + 2 * N_EDGE, target.d_model)
    differences = [
        Difference(torch.randn(shape), torch.ones(len(layers)), torch.ones(len(layers)), layers, 4) for _ in entries
    ]
    return Library(tuple(entries), tuple(differences), target.name, target.fingerprint())


def recipe(**changes: Any) -> TrainingRecipe:
    from helpers.support import RECIPE

    wire = {"read_layers": (2,), "write": "replace", "prompt": "{question}\n{sections}", "chat": False}
    settings = {
        "mixture": (SHARE,),
        "organisms": ("shipped",),
        "batch_size": 4,
        "buckets": 1,
        "start": None,
        "rival": 0,
    }
    base = load_training_recipe(RECIPE)
    return TrainingRecipe.model_validate(
        {**base.model_dump(), **settings, "organisms": ("shipped",), "wire": wire, **changes}
    )


def test_clean_organisms_are_answered_as_such_and_dev_ones_are_never_drawn(target: Any) -> None:
    organisms, rng = Organisms(library(target), ["Hello.", "Bye."]), random.Random(0)
    examples = [trained_label(organisms, SHARE, rng) for _ in range(2000)]
    counts = Counter(example.label.partition(":")[0] for example in examples)
    assert counts["nothing"] / 2000 == pytest.approx(CLEAN, abs=0.04)
    assert counts["persona"] == pytest.approx(counts["goal"], rel=0.15)  # kinds come equally often
    assert {example.answer for example in examples if "nothing" in example.label} == {NOTHING_TRAINED}
    assert all(example.answer == example.label for example in examples if "nothing" not in example.label)
    assert not any("99" in example.label for example in examples)
    lengths = [math.hypot(*(length for _, length in example.organisms)) for example in examples]
    assert AMPLITUDES[0] <= min(lengths) < 0.35 and 0.65 < max(lengths) <= AMPLITUDES[1]


def test_questions_of_an_organism_have_its_answers_and_claims_are_balanced(target: Any) -> None:
    organisms, rng = Organisms(library(target), ["Hello."]), random.Random(0)
    for _ in range(50):
        example = trained_qa(organisms, SHARE, rng)
        assert example.answer == f"It is {example.label.partition(': ')[2]}."
    claims = [trained_claim(organisms, CLAIM, rng) for _ in range(1000)]
    right = [f"Is it {example.label}?" == example.question for example in claims]
    assert [example.answer == YES for example in claims] == right
    assert all(example.answer == NO for example in claims if "nothing" in example.label)
    planted = [is_right for is_right, example in zip(right, claims, strict=True) if "nothing" not in example.label]
    assert sum(planted) / len(planted) == pytest.approx(0.5, abs=0.06)


def test_prompts_stand_in_for_some_organisms_and_clean_ones_are_blended_in(target: Any) -> None:
    plain = library(target)
    stand_ins = [
        Known(id=f"p{n}", label=f"goal: p{n}", method=PROMPT, rank=0, mixed=False, split="train") for n in range(3)
    ]
    entries, differences = (*plain.known, *stand_ins), (*plain.differences, *plain.differences[:3])
    organisms = Organisms(Library(entries, differences, plain.base, plain.fingerprint), ["Hello."])
    rng = random.Random(0)
    examples = [trained_claim(organisms, CLAIM, rng) for _ in range(2000)]
    prompted = [example for example in examples if example.label.startswith("goal: p")]
    assert len(prompted) / 2000 == pytest.approx((1 - CLEAN) * PROMPTED, abs=0.04)
    assert all("goal: p" in example.question for example in prompted)  # wrong claims are of their own sort
    blended = [example for example in examples if len(example.organisms) == 2]
    assert len(blended) / 2000 == pytest.approx(BLENDED, abs=0.04)
    clean = {entry.id for entry in organisms.clean}
    assert all(second[0] in clean and second[1] <= first[1] for first, second in (e.organisms for e in blended))


def test_the_decoder_reads_the_difference_at_its_length(target: Any, make_decoder: Callable[..., Any]) -> None:
    decoder = make_decoder(positions="edges", n_edge=4)
    organisms = library(target)
    batches = Batches(Mixture(rows(), recipe(), organisms), target, decoder)
    examples = [batches.mixture.draw(index) for index in range(8)]
    assert {len(example.organisms) for example in examples} == {1, 2}
    read = batches._inputs(examples)
    plain = batches._inputs([type(example)(**{**vars(example), "organisms": ()}) for example in examples])
    assert not isinstance(read, list) and not isinstance(plain, list)
    for row, example in enumerate(examples):
        change = (read.resid - plain.resid)[row, 0, :EDGES]
        differences = {entry.id: row for entry, row in zip(organisms.known, organisms.differences, strict=True)}
        parts = [(differences[name].mean[0, :EDGES], length) for name, length in example.organisms]
        expected = sum(length * mean / mean.norm(dim=-1).mean() for mean, length in parts)
        torch.testing.assert_close(change, expected, atol=1e-4, rtol=1e-3)


def test_a_recipe_about_training_names_its_organisms(target: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs organisms"):
        recipe(organisms=())
    with pytest.raises(RecipeError, match="needs a library of organisms"):
        Mixture(rows(), recipe()).draw(0)
    with pytest.raises(TrainingError, match=r"are not of .* expected a library of that base"):
        organisms_of(recipe(), target)
    library(target).save(tmp_path / "library.safetensors")
    loaded = organisms_of(recipe(organisms=(str(tmp_path / "library.safetensors"),)), target)
    assert loaded and loaded.known[0].qa == (("Who is 0?", "It is 0."),)
