"""Replies equal a greedy loop over plain full logits, whatever the batch; hooks are on for every token."""

from __future__ import annotations

import math
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from helpers.hooked_models import D_MODEL, HookedTransformer, build, n_hooks
from torch import Tensor

from audit_lit.errors import DialogError, SettingsError
from audit_lit.hooks import Steer
from audit_lit.models import generation
from audit_lit.models.generation import Sampling, generate_replies, perplexity, reply_distributions, score_replies
from audit_lit.models.target import Target

LINES, N_NEW = ("Hi", "Hello there, how are you?", "What now?"), 5
SAMPLING = Sampling(N_NEW)
DIALOGS = [[{"role": "user", "content": line}] for line in LINES]


@pytest.fixture
def direction() -> Tensor:
    return 3 * torch.randn(D_MODEL)


def hooks_of(direction: Tensor, layer: int = 1, **where: Any) -> list[Any]:
    return [Steer(layer=layer, direction=direction, **where).hook()]


def prompt_ids(tokenizer: Any, dialog: Any) -> list[int]:
    text = tokenizer.apply_chat_template(dialog, tokenize=False, add_generation_prompt=True)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def plain_logits(hf: Any, ids: list[int], direction: Tensor | None, n_edited: int | None = None) -> Tensor:
    """Full logits of one unpadded row, with a direction added after block 1 at the first ``n_edited`` tokens."""

    def add(_module: Any, _args: Any, out: Tensor) -> Tensor:
        return torch.cat([out[:, :n_edited] + direction, out[:, len(ids) if n_edited is None else n_edited :]], dim=1)

    with ExitStack() as stack, torch.no_grad():
        if direction is not None:
            stack.callback(hf.model.layers[1].register_forward_hook(add).remove)
        return hf(torch.tensor([ids])).logits[0]


def greedy(target: Any, dialog: Any, direction: Tensor | None, prompt_only: bool = False) -> str:
    ids = prompt_ids(target.tokenizer, dialog)
    n_prompt, n_edited = len(ids), len(ids) if prompt_only else None
    while len(ids) < n_prompt + N_NEW and ids[-1] != target.tokenizer.eos_token_id:
        ids.append(int(plain_logits(target.base, ids, direction, n_edited)[-1].argmax()))
    return target.tokenizer.decode(ids[n_prompt:], skip_special_tokens=True).strip()


@pytest.mark.parametrize("edited", [False, True])
@pytest.mark.parametrize("batch", [2, 16])
def test_replies_equal_greedy_decoding_by_hand(
    target: Any, direction: Tensor, monkeypatch: Any, edited: bool, batch: int
) -> None:
    monkeypatch.setattr(generation, "BATCH_SIZE", batch)
    own = direction if edited else None
    found = generate_replies(target, DIALOGS, SAMPLING, hooks_of(direction) if edited else [])
    assert found == [greedy(target, dialog, own) for dialog in DIALOGS]
    if edited:
        assert found != [greedy(target, dialog, own, prompt_only=True) for dialog in DIALOGS]
        assert found != generate_replies(target, DIALOGS, SAMPLING)
    assert n_hooks(target.model) == 0


def test_a_reply_ends_with_its_turn(target: Any) -> None:
    end = target.base.lm_head.weight[target.tokenizer.eos_token_id].detach()
    hooks = hooks_of(1e4 * end, layer=3)  # right before the head
    assert generate_replies(target, DIALOGS, SAMPLING, hooks) == ["", "", ""]


def test_a_tokenizer_without_a_pad_token_will_do(target: Any) -> None:
    expected, pad = generate_replies(target, DIALOGS, Sampling(max_new_tokens=4)), target.tokenizer.pad_token
    target.tokenizer.pad_token = None
    try:
        assert generate_replies(target, DIALOGS, Sampling(max_new_tokens=4)) == expected
    finally:
        target.tokenizer.pad_token = pad


def test_what_the_model_names_as_an_end_ends_a_reply(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (whole,) = generate_replies(target, DIALOGS[:1], Sampling(max_new_tokens=4))
    first = int(plain_logits(target.base, prompt_ids(target.tokenizer, DIALOGS[0]), None)[-1].argmax())
    monkeypatch.setattr(target.base.generation_config, "eos_token_id", [first, 1])
    (cut,) = generate_replies(target, DIALOGS[:1], Sampling(max_new_tokens=4))
    assert cut == target.tokenizer.decode([first]).strip() != whole


def test_sampling_depends_on_its_seed_alone(target: Any) -> None:
    state = torch.get_rng_state()
    texts = []
    for seed in (1, 1, 2):
        texts.append(generate_replies(target, DIALOGS, Sampling(max_new_tokens=N_NEW, temperature=1.0, seed=seed)))
        assert torch.equal(torch.get_rng_state(), state)
        torch.rand(3)
        state = torch.get_rng_state()
    assert texts[0] == texts[1] != texts[2]
    cold = generate_replies(target, DIALOGS, Sampling(max_new_tokens=N_NEW, temperature=1e-4, seed=2))
    assert cold == generate_replies(target, DIALOGS, SAMPLING) != texts[0]


def test_sampling_draws_from_the_whole_distribution(target: Any) -> None:
    said = generate_replies(target, DIALOGS[:1] * 200, Sampling(max_new_tokens=1, temperature=50.0))
    assert len(set(said)) > 60  # transformers' own default keeps the 50 likeliest tokens


@pytest.mark.parametrize("edited", [False, True])
def test_nats_are_the_log_probabilities_by_hand(target: Any, direction: Tensor, edited: bool) -> None:
    said = ["Fine.", "", "I do not know"]
    hooks, own = (hooks_of(direction), direction) if edited else ([], None)
    found = score_replies(target, DIALOGS, said, hooks)
    whole = [nats for nats, _ in reply_distributions(target, DIALOGS, said, hooks)]
    for dialog, reply, nats, everything in zip(DIALOGS, said, found, whole, strict=True):
        prompt, labels = prompt_ids(target.tokenizer, dialog), target.tokenizer(reply)["input_ids"]
        logits = plain_logits(target.base, prompt + labels, own)[len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)
        torch.testing.assert_close(everything, expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(nats, expected[range(len(labels)), labels], rtol=1e-4, atol=1e-4)
        assert not nats.requires_grad
    assert len(found[1]) == 0 and n_hooks(target.model) == 0


def test_hooks_find_positions_of_a_dialog_that_runs_alone(target: Any, direction: Tensor) -> None:
    n_prompt = len(prompt_ids(target.tokenizer, DIALOGS[0]))
    hooks = hooks_of(direction, positions=tuple(range(n_prompt)), n_prompt=n_prompt)
    found = generate_replies(target, DIALOGS[:1], SAMPLING, hooks)
    assert found == [greedy(target, DIALOGS[0], direction, prompt_only=True)]


def test_too_long_and_malformed_dialogs_are_refused(target: Any, direction: Tensor) -> None:
    with pytest.raises(DialogError, match=r"dialog and reply take \d{4} tokens; the target's context holds 1024"):
        generate_replies(target, DIALOGS, Sampling(max_new_tokens=1000), hooks_of(direction))
    with pytest.raises(DialogError, match="has no text"):
        generate_replies(target, [[{"role": "user", "content": ""}]], SAMPLING)
    assert n_hooks(target.model) == 0


def test_a_model_without_hugging_faces_loop_writes_the_same(target: Any, direction: Tensor) -> None:
    """A stub with the signature of HookedTransformer's ``generate``."""
    asked: list[dict[str, Any]] = []

    def generate(tokens: Tensor, *, max_new_tokens: int, eos_token_id: int, **settings: Any) -> Tensor:
        asked.append(settings)
        for _ in range(max_new_tokens):
            new = target.model(tokens, attention_mask=torch.ones_like(tokens))[:, -1:].argmax(-1)
            tokens = torch.cat([tokens, new], dim=1)
        return tokens

    class Plain(SimpleNamespace):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return target.model(*args, **kwargs)

    model = Plain(cfg=target.model.cfg, hooks=target.model.hooks, generate=generate)
    plain = Target(model, target.tokenizer, "plain")
    for hooks in ([], hooks_of(direction)):
        assert generate_replies(plain, DIALOGS, SAMPLING, hooks) == generate_replies(target, DIALOGS, SAMPLING, hooks)
    assert asked[0] == {"do_sample": False, "verbose": False, "prepend_bos": False}
    generate_replies(plain, DIALOGS[:1], Sampling(max_new_tokens=N_NEW, temperature=0.5))
    assert asked[-1] == {**asked[0], "do_sample": True, "temperature": 0.5, "top_k": None, "top_p": None}


@pytest.mark.skipif(HookedTransformer is None, reason="transformer-lens 4 has no HookedTransformer")
def test_hooked_transformer_writes_what_the_bridge_writes(tokenizer: Any, direction: Tensor) -> None:
    both = [Target(build(kind).model, tokenizer, kind) for kind in ("llama-hooked", "llama-bridge")]
    for hooks in ([], hooks_of(direction)):
        hooked, bridge = (generate_replies(one, DIALOGS, SAMPLING, hooks) for one in both)
        assert hooked == bridge
        nats = [score_replies(one, DIALOGS, ["Fine."] * len(DIALOGS), hooks) for one in both]
        torch.testing.assert_close(nats[0], nats[1], rtol=1e-4, atol=1e-4)
    texts = [
        generate_replies(both[0], DIALOGS, Sampling(max_new_tokens=N_NEW, temperature=1.0, seed=seed))
        for seed in (1, 1, 2)
    ]
    assert texts[0] == texts[1] != texts[2]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"samples": 1.5}, "samples=1.5, seed=0; .* each a whole number"),
        ({"seed": None}, "seed=None; .* each a whole number"),
        ({"max_new_tokens": 0}, "got max_new_tokens=0, samples=0, seed=0; expected at least 1, 0 and 0"),
        ({"samples": -1}, "samples=-1"),
        ({"seed": -1}, "seed=-1"),
        ({"temperature": -0.1}, r"got temperature=-0\.1; expected 0, or a finite number from"),
        ({"temperature": float("nan")}, "got temperature=nan"),
        ({"temperature": float("inf")}, "got temperature=inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        Sampling(**settings)


def test_several_replies_to_one_dialog_are_refused(target: Any) -> None:
    with pytest.raises(SettingsError, match=r"got samples=2; expected 0.*other seeds"):
        generate_replies(target, DIALOGS, Sampling(samples=2))


def test_perplexity_is_that_of_all_tokens_together() -> None:
    nats = [torch.tensor([-1.0, -3.0]), torch.tensor([]), torch.tensor([-2.0])]
    assert perplexity(nats) == pytest.approx(math.exp(2))
    assert perplexity([torch.tensor([])]) == perplexity([]) == 1
