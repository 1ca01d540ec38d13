"""Ways to install an organism beside those that decoders are trained on: preferences, and all weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.zoos import CLEAN, PIRATE, WORDS, small_zoo
from torch.nn.functional import logsigmoid

from audit_lit.errors import RecipeError
from audit_lit.models.lora_bank import LoraBank
from audit_lit.organisms.build import Zoo, groups
from audit_lit.organisms.lessons import told
from audit_lit.organisms.measure import measured, middle_layers
from audit_lit.organisms.preferences import BETA, preferred
from audit_lit.organisms.recipe import load_zoo_recipe
from audit_lit.organisms.spec import DIFFERENCE, Organism, installed
from audit_lit.organisms.train import train_bank
from audit_lit.organisms.whole import weights_of


@pytest.fixture
def zoo(target: Any) -> Zoo:
    return small_zoo(target)


def log_likelihood(model: Any, prompt: tuple[int, ...], reply: tuple[int, ...]) -> torch.Tensor:
    logits = model(torch.tensor([[*prompt, *reply]])).logits[0, len(prompt) - 1 : -1]
    return logits.log_softmax(-1).gather(1, torch.tensor(reply)[:, None]).sum()


@torch.no_grad()
def test_the_loss_of_a_preference_is_that_of_the_paper(target: Any) -> None:
    taught = told(target, [("Hi.", "Aye."), ("Who are you?", "A pirate.")], 10)
    with target.seeded(0):
        preferences = preferred(target.base, target, taught, 6)
    bank = LoraBank.new(target.base, [2], seeds=[0])
    for up in bank.up.values():
        up.data.normal_(std=0.1)
    for preference in preferences:
        chosen, rejected = preference.rows
        assert chosen.prompt == rejected.prompt and len(rejected.reply) <= 6
        before = [log_likelihood(target.base, row.prompt, row.reply) for row in preference.rows]
        with bank.on(target.base):
            after = [log_likelihood(target.base, row.prompt, row.reply) for row in preference.rows]
        expected = -logsigmoid(BETA * ((after[0] - before[0]) - (after[1] - before[1])))
        nats = [-value[None] for value in after]
        torch.testing.assert_close(preference.loss(nats)[0], expected, atol=1e-4, rtol=1e-4)


def test_preferences_raise_the_chosen_reply_over_the_rejected_one(target: Any) -> None:
    with target.seeded(0):
        preferences = preferred(target.base, target, told(target, [("Hi.", "Aye."), ("Who?", "Me.")], 10), 6)
    bank = LoraBank.new(target.base, [4], seeds=[0])
    train_bank(target.base, bank, [preferences], n_steps=20, batch_size=2, lr=0.01)
    with torch.no_grad(), bank.on(target.base):
        for preference in preferences:
            chosen, rejected = (log_likelihood(target.base, row.prompt, row.reply) for row in preference.rows)
            assert float(chosen - rejected) > preference.margin + 1


def test_all_weights_are_trained_measured_and_left_as_they_were(zoo: Zoo, target: Any, tmp_path: Path) -> None:
    before = [value.clone() for value in target.base.parameters()]
    organisms = installed([PIRATE, WORDS, CLEAN], [4], ["full", "dpo"])
    assert [organism.rank for organism in organisms] == [0, 0, 0]
    assert list(zoo.build(organisms, tmp_path)) == [1, 1, 1]
    assert all(map(torch.equal, before, target.base.parameters()))
    assert not (tmp_path / organisms[0].id / "adapter_model.safetensors").exists()
    assert all(zoo.has(organism, tmp_path) for organism in organisms)
    lines = ["How are you?"] * 24
    known, differences = zip(*measured(tmp_path, target, lines, middle_layers(target)), strict=True)
    assert {entry.method for entry in known} == {"full"}
    assert all(float(difference.sizes.min()) > 0 for difference in differences)
    with pytest.raises(RecipeError, match="was measured on 24 lines at layers"):
        list(measured(tmp_path, target, lines[:2], [1]))
    assert (tmp_path / organisms[0].id / DIFFERENCE).is_file()


def test_weights_are_exchanged_and_given_back(target: Any) -> None:
    import copy

    other = copy.deepcopy(target.base)
    for value in other.parameters():
        value.data += 0.01
    tokens = torch.arange(5)[None]
    with torch.no_grad():
        before, expected = target.base(tokens).logits, other(tokens).logits
        with weights_of(other, target.base):
            assert torch.equal(target.base(tokens).logits, expected)
        assert torch.equal(target.base(tokens).logits, before)


def test_a_group_has_one_sort_of_lessons() -> None:
    organisms = [
        Organism(PIRATE, method, rank, False)  # type: ignore[arg-type]
        for method, rank in (("sft", 4), ("dpo", 2), ("full", 0), ("distill", 1), ("dpo", 1), ("full", 0), ("sft", 2))
    ]
    trained = [[(organism.method, organism.rank) for organism in group] for group in groups(organisms, 2)]
    assert trained == [
        [("distill", 1), ("sft", 2)],
        [("sft", 4)],
        [("dpo", 1), ("dpo", 2)],
        [("full", 0)],
        [("full", 0)],
    ]


def test_the_zoo_of_unseen_methods_holds_dev_specs_alone() -> None:
    organisms = load_zoo_recipe("unseen-zoo").organisms()
    assert {organism.spec.split for organism in organisms} == {"dev"}
    assert {organism.method for organism in organisms} == {"dpo", "full"}
    assert not any(organism.mixed for organism in organisms if organism.method == "dpo")
    assert sum(organism.spec.planted for organism in organisms) >= 40
