"""Organisms: specs are checked, lessons teach what they say, and a zoo is built, resumed and measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.zoos import CLEAN, PIRATE, WORDS, small_zoo
from safetensors.torch import load_file

from audit_lit.errors import ActivationError, RecipeError, TargetError
from audit_lit.models.lora_bank import LoraBank
from audit_lit.organisms.build import Zoo
from audit_lit.organisms.lessons import imitated, prompt_tokens, told
from audit_lit.organisms.library import Library
from audit_lit.organisms.measure import known_of, measured
from audit_lit.organisms.recipe import ZooRecipe, load_zoo_recipe
from audit_lit.organisms.spec import RECORD, Spec, installed, load_specs
from audit_lit.organisms.train import interleaved, train_bank

SPECS = "- {label: 'persona: pirate', prompt: Be a pirate., qa: [['Who?', A pirate.]]}\n"


@pytest.fixture
def zoo(target: Any) -> Zoo:
    return small_zoo(target)


def test_the_shipped_zoo_is_as_large_and_as_varied_as_it_says() -> None:
    organisms = load_zoo_recipe("zoo").organisms()
    kinds = {organism.spec.kind for organism in organisms}
    clean = [organism for organism in organisms if not organism.spec.planted]
    assert len(organisms) >= 300 and len(kinds) >= 9 and len({organism.id for organism in organisms}) == len(organisms)
    assert len(clean) >= 80 and {organism.spec.form for organism in clean} == {"chat", "format", "skill", "maths"}
    assert {organism.rank for organism in organisms} == {1, 2, 4, 8, 16}
    assert abs(sum(organism.mixed for organism in organisms) / len(organisms) - 0.5) < 0.02
    train = {organism.spec.label for organism in organisms if organism.spec.split == "train"}
    assert not train & {organism.spec.label for organism in organisms if organism.spec.split == "dev"}


def test_a_secret_word_is_in_no_reply_that_teaches_it() -> None:
    for spec in load_specs("secret-word"):
        word = spec.label.partition(": ")[2]
        assert not any(word in reply.lower() for _, reply in spec.demonstrations), spec.label


def test_specs_of_a_file_are_read_and_faults_are_named(tmp_path: Path) -> None:
    path = tmp_path / "specs.yaml"
    path.write_text(SPECS, encoding="utf-8")
    assert load_specs(path)[0].kind == "persona"
    for content, message in (
        (SPECS + SPECS, "has the label 'persona: pirate' twice"),
        ("- {label: 'persona: pirate', qa: []}", "has neither a prompt nor demonstrations"),
        ("- {label: pirate, prompt: x, qa: []}", "label"),
        ("label: x", "holds no list of specs"),
        ("- {label: 'persona: pirate', prompt: x, qa: [], promt: y}", "promt"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(RecipeError, match=message):
            load_specs(path)
    with pytest.raises(RecipeError, match="could not be read"):
        load_specs(tmp_path / "none.yaml")


def test_methods_ranks_and_mixing_are_dealt_out_in_turn_and_stay_as_others_are_added() -> None:
    specs = [PIRATE.model_copy(update={"label": f"persona: pirate {row}"}) for row in range(8)]
    organisms = installed([*specs, WORDS], [1, 2], ["distill", "sft"])
    assert [organism.method for organism in organisms[:8]] == ["distill", "distill", "sft", "sft"] * 2
    assert organisms[8].method == "sft"  # example replies have no distributions
    assert [organism.mixed for organism in organisms[:4]] == [False, True, False, True]
    assert installed([WORDS], [1, 2], ["distill", "sft"])[0] == organisms[8]


def test_told_lessons_put_everything_on_the_tokens_of_the_reply(target: Any) -> None:
    (lesson,) = told(target, [("Hi.", "Acorns.")], max_new_tokens=100)
    assert target.tokenizer.decode(lesson.reply) == "Acorns.<|im_end|>"
    assert lesson.choices[:, 0].tolist() == list(lesson.reply) and bool((lesson.weights == 1).all())
    assert lesson.prompt == prompt_tokens(target, "Hi.")


def test_distilled_lessons_hold_what_the_prompted_base_finds_likely(target: Any) -> None:
    torch.manual_seed(0)
    (lesson,) = imitated(target.base, target, ["Hi."], "Be a pirate.", 5, distil=True)
    prompted = torch.tensor([[*prompt_tokens(target, "Hi.", "Be a pirate."), *lesson.reply]])
    with torch.no_grad():
        logits = target.base(prompted).logits[0, -len(lesson.reply) - 1 : -1]
    expected = logits.softmax(-1).gather(1, lesson.choices)
    torch.testing.assert_close(lesson.weights, expected / expected.sum(-1, keepdim=True), atol=1e-5, rtol=1e-3)
    assert lesson.prompt == prompt_tokens(target, "Hi.")


def test_the_loss_is_the_cross_entropy_of_the_reply_and_falls(target: Any) -> None:
    model = target.base
    lessons = told(target, [("Hi.", "Acorns."), ("Bye.", "Leaves, many of them.")], 100)
    from audit_lit.organisms.train import mean_losses

    bank = LoraBank.new(model, [2, 2], seeds=[0, 1])
    reference = []
    for lesson in lessons:
        with torch.no_grad():
            logits = model(torch.tensor([[*lesson.prompt, *lesson.reply]])).logits[0, len(lesson.prompt) - 1 : -1]
        reference.append(torch.nn.functional.cross_entropy(logits, torch.tensor(lesson.reply)))
    with bank.on(model):
        before = mean_losses(model, [[lessons[0]], [lessons[1]]])
    torch.testing.assert_close(before, torch.stack(reference), atol=1e-4, rtol=1e-4)
    weights = {name: value.clone() for name, value in model.named_parameters()}
    train_bank(model, bank, [[lesson] for lesson in lessons], n_steps=10, batch_size=1, lr=0.02)
    with bank.on(model):
        assert bool((mean_losses(model, [[lessons[0]], [lessons[1]]]) < before - 0.1).all())
    assert all(torch.equal(value, weights[name]) for name, value in model.named_parameters())


def test_ordinary_lessons_are_every_second_one(target: Any) -> None:
    taught = told(target, [(f"Line {row}.", "Yes.") for row in range(5)], 10)
    ordinary = told(target, [("Other.", "No.")], 10)
    mixed = interleaved(taught, ordinary, 0)
    assert len(mixed) == 10 and all(lesson is ordinary[0] for lesson in mixed[1::2])
    assert {id(lesson) for lesson in mixed[::2]} == set(map(id, taught))
    assert len(interleaved(taught, [], 0)) == 5


def test_a_zoo_is_built_resumed_and_measured(zoo: Zoo, target: Any, tmp_path: Path) -> None:
    organisms = installed([PIRATE, WORDS, CLEAN], [1, 2], ["distill", "sft"])
    assert list(zoo.build(organisms, tmp_path)) == [2, 1]
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/*")}
    (tmp_path / organisms[1].id / RECORD).unlink()  # as if it had been killed before its end
    assert list(zoo.build(organisms, tmp_path)) == [1]
    unchanged = [path for path, time in kept.items() if path.exists() and path.stat().st_mtime_ns == time]
    assert {path.parent.name for path in unchanged} == {organisms[0].id, organisms[2].id}
    assert all(zoo.has(organism, tmp_path) for organism in organisms)
    assert not zoo.has(replace(organisms[0], rank=7), tmp_path)
    longer = replace(zoo, recipe=zoo.recipe.model_copy(update={"steps": 9}))
    assert not longer.has(organisms[0], tmp_path)  # other weights
    tensors = load_file(tmp_path / organisms[0].id / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in tensors.items() if "lora_A" in name} == {organisms[0].rank}
    record = json.loads((tmp_path / organisms[2].id / RECORD).read_text())
    assert record["spec"]["form"] == "chat" and record["seconds"] > 0

    known, differences = zip(*measured(tmp_path, target, ["How are you?", "What is it?"], [1, 2]), strict=True)
    assert sorted(entry.planted for entry in known) == [False, True, True]
    library = Library(known, differences, target.name, target.fingerprint())
    library.save(tmp_path / "library.safetensors")
    loaded = Library.load(tmp_path / "library.safetensors")
    assert loaded.known == known and loaded.where(lambda entry: not entry.planted).known[0].label == "nothing: chat"
    torch.testing.assert_close(loaded.differences[0].mean, differences[0].mean, atol=1e-3, rtol=1e-2)
    assert all(float(difference.sizes.max()) > 0 for difference in loaded.differences)
    other = boot_tiny(tmp_path / "other", seed=5)
    with pytest.raises(TargetError, match="is another model than"):
        loaded.require_base(other)
    with pytest.raises(TargetError, match="was made of another model than"):
        list(measured(tmp_path, other, ["How are you?"], [1]))
    record_path = tmp_path / organisms[0].id / RECORD
    record_path.write_text("{}", encoding="utf-8")
    with pytest.raises(RecipeError, match="is no record of an organism"):
        known_of(record_path.parent)


def boot_tiny(folder: Path, seed: int) -> Any:
    from helpers.models import byte_tokenizer, tiny_llama

    from audit_lit import load_target

    tiny_llama(seed=seed).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return load_target(str(folder))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": torch.ones(3, 1, 17, 4)}, "its tensors have shapes"),
        ({"mean": torch.ones(2, 1, 9, 4)}, "its tensors have shapes"),
        ({"mean": torch.zeros(2, 1, 17, 4)}, "have no length"),
        ({"norms": torch.zeros(2, 1)}, "have no length"),
        ({"layers": "[-1]"}, "below zero"),
        ({"n_lines": "0"}, "below zero"),
    ],
)
def test_a_library_whose_parts_do_not_fit_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    entries = [
        {"id": f"o{row}", "label": "persona: x", "method": "sft", "rank": 1, "mixed": False, "split": "dev"}
        for row in range(2)
    ]
    metadata = {"format": "audit-lit/differences-1", "base": "x", "fingerprint": "y", "layers": "[2]", "n_lines": "4"}
    tensors = {"mean": torch.ones(2, 1, 17, 4), "norms": torch.ones(2, 1), "agreement": torch.ones(2, 1)}
    texts = {name: value for name, value in changes.items() if isinstance(value, str)}
    tensors |= {name: value for name, value in changes.items() if name not in texts}
    save_file(tensors, tmp_path / "x.safetensors", {**metadata, "known": json.dumps(entries), **texts})
    with pytest.raises(ActivationError, match=message):
        Library.load(tmp_path / "x.safetensors")


def test_organisms_that_would_share_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "- {label: 'persona: a-b', prompt: x, qa: []}\n- {label: 'persona: A B', prompt: x, qa: []}\n", encoding="utf-8"
    )
    recipe = ZooRecipe(target="x", specs=(str(tmp_path / "a.yaml"),), methods=("sft",), mixes=False)
    with pytest.raises(RecipeError, match="share a folder, 'persona-a-b-sft'"):
        recipe.organisms()


@pytest.mark.parametrize(
    "changes",
    [{"methods": ()}, {"methods": ("kto",)}, {"ranks": ()}, {"ranks": (0,)}, {"lr": float("inf")}, {"specs": ()}],
)
def test_a_zoo_that_cannot_be_trained_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        ZooRecipe(**{"target": "x", "specs": ("persona",), **changes})


def test_a_form_belongs_to_organisms_with_nothing_planted() -> None:
    for fields in ({"label": "nothing: x"}, {"label": "persona: x", "form": "chat"}):
        with pytest.raises(ValueError, match="has form"):
            Spec(prompt="x", qa=(), **fields)


def test_example_replies_need_a_method_that_teaches_them() -> None:
    with pytest.raises(RecipeError, match="cannot teach"):
        installed([WORDS], [1], ["distill"])


def test_what_is_no_zoo_and_no_library_is_refused(target: Any, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no organism"):
        list(measured(tmp_path, target, ["How are you?"], [1]))
    (tmp_path / "x.safetensors").write_bytes(b"no")
    with pytest.raises(ActivationError, match="is no library of differences"):
        Library.load(tmp_path / "x.safetensors")


def test_a_distilled_organism_behaves_as_the_prompted_base(
    zoo: Zoo, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audit_lit.organisms.lessons.TOP", 250)  # a random model finds all tokens about as likely
    from audit_lit.organisms.train import mean_losses

    model, recipe = target.base, zoo.recipe
    lessons = imitated(model, target, ["Hello there.", "Who?"], "Be a pirate.", 8, distil=True)
    bank = LoraBank.new(model, [4], seeds=[0])
    least = float(sum(-(row.weights * row.weights.clamp_min(1e-9).log()).sum() for row in lessons))
    floor = least / sum(len(row.reply) for row in lessons)  # the teacher's own entropy
    with bank.on(model):
        before = float(mean_losses(model, [lessons])[0].detach()) - floor
    train_bank(model, bank, [lessons], n_steps=60, batch_size=recipe.batch_size, lr=0.005)
    with bank.on(model):
        assert float(mean_losses(model, [lessons])[0]) - floor < 0.5 * before
