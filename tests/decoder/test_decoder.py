"""Answers and scores of a decoder: equal to plain full logits, whatever the cache, the batch and the padding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hooked_models import D_MODEL, full_logits
from helpers.models import make_config
from torch import Tensor

from audit_lit import Activations, Decoder, DecoderMismatch
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.decoder.prompt import build_prompt
from audit_lit.errors import ActivationError, DecoderConfigError, HubError, QuestionError
from audit_lit.hooks import resid_post
from audit_lit.models.capture import capture_batch

Make = Callable[..., Decoder]
QUESTIONS = ["What?", "Why is it so"]
ANSWERS = ["Nobody knows.", "A"]
WIRES: dict[str, dict[str, Any]] = {
    "add": {},
    "replace-shifted": {"write": "replace", "shift_positions": True, "write_layer": 1},
    "project-two-layers": {"write": "project", "read_layers": (1, 3), "section": "Layer {layer}:{slots}"},
}


@pytest.fixture(params=WIRES)
def decoder(request: pytest.FixtureRequest, make_decoder: Make) -> Decoder:
    return make_decoder(**WIRES[request.param])


def reading(
    target: Any, layers: tuple[int, ...], texts: tuple[str, ...] = ("Hi", "Hello there you"), **how: Any
) -> Any:
    system = {"role": "system", "content": "Be a pirate."}
    rendered = [render([system, {"role": "user", "content": text}], target.tokenizer) for text in texts]
    return capture_batch(target, rendered, [reveal_positions(one) for one in rendered], layers, **how)


@pytest.fixture
def activations(target: Any, decoder: Decoder) -> Activations:
    return reading(target, decoder.config.read_layers)


def test_answers_equal_a_greedy_loop_over_full_logits(decoder: Decoder, activations: Activations) -> None:
    together = decoder.answer(activations, QUESTIONS, max_new_tokens=6)
    for row, question in enumerate(QUESTIONS):
        one, ids = activations.rows([row]), []
        with torch.no_grad():
            while len(ids) < 6 and decoder.tokenizer.eos_token_id not in ids:
                ids.append(int(full_logits(decoder, one, question, ids)[-1].argmax()))
        assert together[row] == decoder.tokenizer.decode(ids, skip_special_tokens=True).strip()


@torch.no_grad()
def test_scores_equal_full_logits_whatever_the_padding(decoder: Decoder, activations: Activations) -> None:
    scores = decoder.logprob(activations, QUESTIONS, ANSWERS)
    tokenizer = decoder.tokenizer
    for row, (question, answer) in enumerate(zip(QUESTIONS, ANSWERS, strict=True)):
        one = activations.rows([row])
        labels = [*tokenizer(answer)["input_ids"], tokenizer.eos_token_id]
        for n_pad in (0, 5):
            logits = full_logits(decoder, one, question, labels, n_pad)[-len(labels) - 1 : -1]
            expected = logits.log_softmax(-1)[range(len(labels)), labels]
            torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scores[row], decoder.logprob(one, [question], [answer])[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(decoder.loss(activations, QUESTIONS, ANSWERS), -torch.cat(scores).mean())


def test_what_scores_share_is_computed_once(decoder: Decoder, activations: Activations) -> None:
    from audit_lit.decoder.answering import Candidate

    long, short = "What was the assistant told to be or do?", "Who?"
    asked = [Candidate(row, long, answer) for row in (0, 1) for answer in ("A pirate.", "No.", "")]
    asked += [
        Candidate(0, long, "No."),
        Candidate(0, short, "Nobody."),
        *(Candidate(row, long, "No.", False) for row in (0, 0)),
    ]
    runs: list[tuple[int, ...]] = []
    hook = decoder.model.register_forward_pre_hook(
        lambda _module, _args, given: runs.append(tuple(given["input_ids"].shape)), with_kwargs=True
    )
    scores = decoder.score_candidates(activations, asked)
    hook.remove()
    prompts = len({(one.row, one.question, one.injected) for one in asked})
    assert sum(rows for rows, length in runs if length > 10) <= prompts + 2  # and what some of them begin with
    assert sum(rows * length for rows, length in runs) < 0.6 * sum(len(one.question) + 60 for one in asked)
    for one, score in zip(asked, scores, strict=True):
        row = activations.rows([one.row])
        (alone,) = decoder.logprob(row, [one.question], [one.answer], injected=one.injected)
        torch.testing.assert_close(score, alone, atol=1e-4, rtol=1e-4)


def test_the_loss_is_differentiable_down_to_an_edit_of_the_target(target: Any, decoder: Decoder) -> None:
    def loss(delta: Tensor) -> Tensor:
        def edit(resid: Tensor, *, hook: object) -> Tensor:
            return resid + delta

        with target.model.hooks(fwd_hooks=[(resid_post(0), edit)]):
            return decoder.loss(reading(target, decoder.config.read_layers, grad=True), QUESTIONS, ANSWERS)

    zero = torch.zeros(D_MODEL, requires_grad=True)
    (grad,) = torch.autograd.grad(loss(zero), zero)
    step = 1e-2 * grad / grad.norm()
    numeric = (loss(step) - loss(-step)).detach() / 2e-2
    torch.testing.assert_close(numeric, grad.norm(), rtol=5e-2, atol=1e-4)


def test_empty_slots_and_no_lora_give_other_scores(target: Any, decoder: Decoder, activations: Activations) -> None:
    with torch.no_grad():
        injected, empty = (
            torch.cat(decoder.logprob(activations, QUESTIONS, ANSWERS, injected=injected)) for injected in (True, False)
        )
        with decoder.model.disable_adapter():
            base = torch.cat(decoder.logprob(activations, QUESTIONS, ANSWERS, injected=False))
        assert (injected - empty).abs().max() > 1e-3
        assert (empty - base).abs().max() > 1e-3
        prompt = build_prompt(decoder.config, decoder.tokenizer, "What?", int(activations.mask[0].sum()))
        labels = [*decoder.tokenizer("Nobody knows.")["input_ids"], decoder.tokenizer.eos_token_id]
        logits = target.base(torch.tensor([[*prompt.token_ids, *labels]])).logits[0, -len(labels) - 1 : -1]
    plain = logits.log_softmax(-1)[range(len(labels)), labels]
    torch.testing.assert_close(base[: len(labels)], plain, rtol=1e-4, atol=1e-4)
    answers = [
        decoder.answer(activations, QUESTIONS, max_new_tokens=8, injected=injected) for injected in (True, False)
    ]
    assert answers[0] != answers[1]


def test_choices_score_as_one_by_one(target: Any, make_decoder: Make) -> None:
    decoder, activations = make_decoder(), reading(target, (2,)).rows([1])
    # More than are scored at once, and not in the order of their lengths.
    answers = [
        *ANSWERS,
        "z",
        *("yes" * n for n in (5, 1, 8, 3, 7, 2)),
        "a much longer answer than the prompt of this question has tokens in all of its parts",
    ]
    for injected in (True, False):
        found = decoder.score_choices(activations, QUESTIONS[0], answers, injected=injected)
        n = len(answers)
        expected = decoder.logprob(activations.rows([0] * n), QUESTIONS[:1] * n, answers, injected=injected)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_sampling_is_seeded_and_leaves_the_global_state_alone(target: Any, make_decoder: Make) -> None:
    decoder, activations = make_decoder(), reading(target, (2,))
    state = torch.get_rng_state()
    how = {"max_new_tokens": 6, "temperature": 1.5}
    texts = [decoder.answer(activations, QUESTIONS, seed=seed, **how) for seed in (1, 1, 2)]
    assert torch.equal(torch.get_rng_state(), state)
    assert texts[0] == texts[1] != texts[2]


def test_the_base_is_shared_and_the_target_unchanged(target: Any, make_decoder: Make) -> None:
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        before = target.model(tokens, attention_mask=torch.ones_like(tokens))
        decoder = make_decoder()
        after = target.model(tokens, attention_mask=torch.ones_like(tokens))
        assert torch.equal(before, after)
        assert (decoder.model(tokens).logits - before).abs().max() > 1e-2
    own = {param.data_ptr() for name, param in decoder.model.named_parameters() if "lora_" not in name}
    assert own == {param.data_ptr() for param in target.base.parameters()}
    assert own <= {param.data_ptr() for param in target.model.parameters()}


def test_a_saved_decoder_loads_the_same(
    target: Any, decoder: Decoder, activations: Activations, tmp_path: Path
) -> None:
    decoder.save(tmp_path)
    loaded = Decoder.from_pretrained(str(tmp_path), target=target)
    assert loaded.config == decoder.config
    with torch.no_grad():
        scores = [torch.cat(one.logprob(activations, QUESTIONS, ANSWERS)) for one in (decoder, loaded)]
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=2e-2)  # the adapter is kept in bfloat16
    weights = [{name: p for name, p in one.model.named_parameters() if "lora_" in name} for one in (decoder, loaded)]
    assert all(torch.equal(weights[0][name].bfloat16().float(), value) for name, value in weights[1].items())
    for name, value in decoder.write.state_dict().items():
        assert torch.equal(value, loaded.write.state_dict()[name])


@pytest.mark.parametrize(
    ("layers", "width", "error"),
    [
        ((1,), 32, r"reads all of layers \[2\], of width 32; got \[1\] of width 32"),
        ((2,), 8, r"got \[2\] of width 8"),
    ],
)
def test_activations_of_other_layers_or_width_are_refused(
    target: Any, make_decoder: Make, layers: tuple[int, ...], width: int, error: str
) -> None:
    decoder, one = make_decoder(), reading(target, layers, ("Hi",))
    one = Activations(**{**vars(one), "resid": one.resid[..., :width]})
    for call in (lambda: decoder.answer(one, ["What?"]), lambda: decoder.logprob(one, ["What?"], ["A"])):
        with pytest.raises(DecoderMismatch, match=error):
            call()


def test_limits_are_checked_before_running(target: Any, make_decoder: Make) -> None:
    decoder, one = make_decoder(), reading(target, (2,), ("Hi",))
    with pytest.raises(QuestionError, match=r"take \d{4} tokens; the decoder's context holds 1024"):
        decoder.answer(one, ["What?"], max_new_tokens=1000)
    with pytest.raises(QuestionError, match="the decoder's context holds 1024"):
        decoder.logprob(one, ["What?"], ["A" * 1000])
    with pytest.raises(ActivationError, match="got 1 rows of activations for 2 questions"):
        decoder.answer(one, QUESTIONS)
    with pytest.raises(DecoderMismatch, match="writes at block 4, but its base has 4;"):
        Decoder(decoder.model, decoder.tokenizer, make_config(target, write_layer=4), decoder.write)


SEVERAL = {"write": "project", "read_layers": (3, 1), "layer_choice": "one", "section": "Layer {layer}:{slots}"}


@torch.no_grad()
@pytest.mark.parametrize("layer", [3, 1])
def test_one_of_several_layers_is_read_as_if_alone(make_decoder: Make, target: Any, layer: int) -> None:
    several = make_decoder(**SEVERAL)
    activations = reading(target, (layer,))
    scores = several.logprob(activations, QUESTIONS, ANSWERS)
    alone = several.for_layer(layer)
    assert alone.config.read_layers == (layer,) and alone.for_layer(layer).config == alone.config
    for one, other in zip(scores, alone.logprob(activations, QUESTIONS, ANSWERS), strict=True):
        torch.testing.assert_close(one, other)
    prompt = build_prompt(several.config, several.tokenizer, "What?", 2, activations.layers)
    assert f"Layer {layer}:" in several.tokenizer.decode(prompt.token_ids)
    index = several.config.read_layers.index(layer)
    other = several.write.mean[1 - index].clone()
    several.write.mean[1 - index] += 1  # of the other layer: no difference
    torch.testing.assert_close(several.logprob(activations, QUESTIONS, ANSWERS)[0], scores[0])
    several.write.mean[1 - index] = other
    several.write.mean[index] += 1
    assert not torch.allclose(several.logprob(activations, QUESTIONS, ANSWERS)[0], scores[0])


def test_layers_that_cannot_be_chosen_are_refused(make_decoder: Make, target: Any) -> None:
    several, single = make_decoder(**SEVERAL), make_decoder()
    assert several.for_layer().config.read_layers == (3,) and single.for_layer() is single
    with pytest.raises(DecoderMismatch, match=r"reads layer 3 or 1, but layer 2 was asked for"):
        several.for_layer(2)
    with pytest.raises(DecoderMismatch, match=r"reads layers \[2\], but layer 1 was asked for"):
        single.for_layer(1)
    with pytest.raises(DecoderMismatch, match=r"reads one of layers \[3, 1\], of width 32; got \[1, 3\]"):
        several.logprob(reading(target, (1, 3)), QUESTIONS, ANSWERS)
    with pytest.raises(ActivationError, match="layer 0 was not read"):
        reading(target, (1, 3)).for_layer(0)


def test_a_decoder_of_several_layers_survives_saving(make_decoder: Make, target: Any, tmp_path: Path) -> None:
    several = make_decoder(**SEVERAL)
    several.reference = reading(target, (3, 1))
    several.config = several.config.model_copy(update={"n_reference": 2, "lift_threshold": 0.5})
    several.save(tmp_path)
    assert [several.for_layer(layer).config.lift_threshold for layer in (3, 1)] == [0.5, None]  # measured at the first
    loaded = Decoder.from_pretrained(str(tmp_path), target=target)
    assert loaded.config == several.config and loaded.reference is not None
    torch.testing.assert_close(loaded.reference.resid, several.reference.resid)
    torch.testing.assert_close(loaded.for_layer(1).reference.resid[:, 0], several.reference.resid[:, 1])
    several.reference.rows([0]).save(tmp_path / "reference.safetensors")
    with pytest.raises(HubError, match=r"holds 1 dialogs at layers \[3, 1\]; expected 2"):
        Decoder.from_pretrained(str(tmp_path), target=target)
    (tmp_path / "reference.safetensors").unlink()
    with pytest.raises(HubError, match="holds no such file; expected 2"):
        Decoder.from_pretrained(str(tmp_path), target=target)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("value", [None, 3, "abc", b"abc", [None], [3], {"a": 1}, ["\ud800"], [], ["a", "b"]])
def test_arguments_of_another_kind_are_refused_in_words(target: Any, make_decoder: Any, value: Any) -> None:
    decoder, activations = make_decoder(), reading(target, (2,), ("Hi",))
    for call in (
        lambda: decoder.answer(activations, value),
        lambda: decoder.logprob(activations, value, ["A."]),
        lambda: decoder.logprob(activations, ["Who?"], value),
        lambda: decoder.answer(value, ["Who?"]),
        lambda: decoder.logprob(value, ["Who?"], ["A."]),
    ):
        with pytest.raises((ActivationError, QuestionError), match="expected"):
            call()
    if value not in ([], ["a", "b"]):
        with pytest.raises(QuestionError, match="expected"):
            decoder.score_choices(activations, "Who?", value)


def test_a_token_that_the_tokenizer_lacks_is_found_when_the_decoder_is_made(make_decoder: Any) -> None:
    for changes in ({"answer_end": "<|nothing|>"}, {"placeholder": " no token"}):
        with pytest.raises(DecoderConfigError, match=r"tokenizer"):
            make_decoder(**changes)
    assert make_decoder(answer_end="<|im_start|>").answer_ids("")
