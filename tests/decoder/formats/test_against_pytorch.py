"""Every published format end to end, against plain PyTorch: prompt, read positions, injected rows and logits."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from helpers.chat_templates import TEMPLATES, llama3_tokenizer, message
from helpers.hooked_models import D_MODEL, N_LAYERS, formula, residuals, target_of
from helpers.models import byte_tokenizer
from torch import Tensor, nn

from audit_lit import Activations, DecoderConfig
from audit_lit.chat.rendering import render
from audit_lit.decoder import formats
from audit_lit.models.capture import capture_batch

SIZE: dict[str, Any] = {"target": "tiny", "d_model": D_MODEL, "n_layers": N_LAYERS}
AO = formats.activation_oracle("ao", **SIZE)
FORMATS = {
    "lit": formats.lit_llama3("lit", **SIZE, read_layer=2),
    "ao": AO,
    "ao-multilayer": formats.activation_oracle_multilayer("ao-multilayer", **SIZE),
    "ao-v3": formats.activation_oracle_v3("ao-v3", **SIZE),
    "project": AO.model_copy(update={"name": "project", "write": "project", "write_layer": 0, "read_layers": (1, 2)}),
}
TALK = [("system", "Be a pirate."), ("user", "Hi"), ("assistant", "Ahoy"), ("user", "Hm")]
LONG_TALK = [*TALK, ("assistant", "Aye"), ("user", "Hi"), ("assistant", "Yo"), ("user", "And")]
DIALOG, LONGER = ([message(role, text) for role, text in talk] for talk in (TALK, LONG_TALK))
QUESTION, ANSWERS = "Who is it?", ["A pirate", "A pirate or two"]


@pytest.fixture(params=FORMATS)
def config(request: pytest.FixtureRequest) -> DecoderConfig:
    return FORMATS[request.param]


@pytest.fixture
def target(config: DecoderConfig) -> Any:
    """Instead of conftest's target: the tiny Llama with this format's tokens."""
    return target_of(llama3_tokenizer() if config.name == "lit" else byte_tokenizer(TEMPLATES["chatml"]))


@pytest.fixture
def decoder(config: DecoderConfig, make_decoder: Any) -> Any:
    return make_decoder(**{name: value for name, value in dict(config).items() if name != "target"})


def ids_of(tokenizer: Any, *pieces: Any) -> tuple[list[int], list[int]]:
    """Tokens of special tokens, single characters and slots (tuples), and where the slots are."""
    ids: list[int] = []
    slots: list[int] = []
    for piece in pieces:
        slots += [len(ids)] if isinstance(piece, tuple) else []
        parts = [piece] if isinstance(piece, str) and piece.startswith("<|") else piece
        ids += [tokenizer.get_vocab()[part.replace(" ", "\u0120").replace("\n", "\u010a")] for part in parts]
    return ids, slots


def prompt_by_hand(name: str, tokenizer: Any, n_slots: int) -> tuple[list[int], list[int]]:
    """The decoder's input as each project's code writes it."""
    slots = [(" ?",)] * n_slots
    if name == "lit":
        user, reflect = (["<|start_header_id|>", role, "<|end_header_id|>", "\n\n"] for role in ("user", "reflect"))
        said = ["Sure, I've analyzed the assistant.", "<|eot_id|>"]
        first = ["<|begin_of_text|>", *user, ("?",), *slots[1:], "<|eot_id|>", *reflect, *said]
        return ids_of(tokenizer, *first, *user, QUESTION, "<|eot_id|>", *reflect)
    body = {
        "ao": ["Layer: 2\n", *slots, " \n"],
        "ao-multilayer": ["Layer: 1\n", *slots, " \nLayer: 2\n", *slots, " \nLayer: 3\n", *slots, " \n"],
        "ao-v3": ["L1:", *slots, " L2:", *slots, " L3:", *slots, "\n"],
        "project": ["Layer: 1\n", *slots, " \nLayer: 2\n", *slots, " \n"],
    }[name]
    start, end = ["<|im_start|>", "user\n"], ["<|im_end|>", "\n", "<|im_start|>", "assistant\n"]
    return ids_of(tokenizer, *start, *body, QUESTION, *end)


def last_turn_by_hand(name: str, tokenizer: Any, dialog: Any, token_ids: list[int]) -> list[int]:
    """Positions of the last user turn and the generation prompt, found in the tokens by their characters."""
    text = dialog[-1]["content"]
    if name == "lit":
        header = [["<|start_header_id|>", role, "<|end_header_id|>", "\n\n"] for role in ("user", "assistant")]
        ids, _ = ids_of(tokenizer, *header[0], text, "<|eot_id|>", *header[1])
    else:
        ids, _ = ids_of(tokenizer, "<|im_start|>", "user\n", text, "<|im_end|>", "\n", "<|im_start|>", "assistant\n")
    assert token_ids[-len(ids) :] == ids
    return list(range(len(token_ids) - len(ids), len(token_ids)))


def reference(
    decoder: Any, ids: list[int], slots: list[int], vectors: list[tuple[Tensor, int]]
) -> tuple[Tensor, Tensor]:
    """Run the decoder's blocks one by one, write the slots by hand; residual after the write layer, logits."""
    model = decoder.model.get_base_model()
    resid = model.model.embed_tokens(torch.tensor([ids]))
    places = torch.arange(len(ids))[None]
    rotary = model.model.rotary_emb(resid, places)
    causal = torch.full((len(ids), len(ids)), float("-inf")).triu(1)[None, None]
    written = resid
    for index, block in enumerate(model.model.layers):
        resid = block(resid, attention_mask=causal, position_ids=places, position_embeddings=rotary)
        if index == decoder.config.write_layer:
            resid = resid.clone()
            for slot, (vector, layer) in zip(slots, vectors, strict=True):
                resid[0, slot] = formula(decoder.config.write, decoder.write, resid[0, slot], vector, layer)
            written = resid
    return written[0], model.lm_head(model.model.norm(resid))[0]


def spy(stack: ExitStack, module: nn.Module, name: str) -> list[Tensor]:
    """Collect the argument ``name`` of every call of a module."""
    seen: list[Tensor] = []

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append(kwargs[name] if name in kwargs else args[0])

    stack.callback(module.register_forward_pre_hook(note, with_kwargs=True).remove)
    return seen


def reading(target: Any, config: DecoderConfig, dialogs: list[Any]) -> Activations:
    rendered = [render(dialog, target.tokenizer) for dialog in dialogs]
    return capture_batch(target, rendered, [config.select(one, "user") for one in rendered], config.read_layers)


@torch.no_grad()
def test_prompt_rows_and_logits_equal_plain_pytorch(config: DecoderConfig, target: Any, decoder: Any) -> None:
    dialogs, tokenizer = [DIALOG, LONGER], target.tokenizer
    activations = reading(target, config, dialogs)
    blocks = decoder.model.get_base_model().model.layers
    with ExitStack() as stack:
        entering = spy(stack, blocks[config.write_layer + 1], "hidden_states")
        positions = spy(stack, decoder.model.get_base_model(), "position_ids")
        scores = decoder.logprob(activations, [QUESTION] * 2, ANSWERS)
        decoder.logprob(activations, [QUESTION] * 2, ANSWERS, injected=False)
    for row, (dialog, answer) in enumerate(zip(dialogs, ANSWERS, strict=True)):
        rendered = render(dialog, tokenizer)
        places = last_turn_by_hand(config.name, tokenizer, dialog, list(rendered.token_ids))
        resid = residuals(target.base, target.base.model.layers, torch.tensor([rendered.token_ids]))
        vectors = [(resid[layer][0, at], index) for index, layer in enumerate(config.read_layers) for at in places]
        ids, slots = prompt_by_hand(config.name, tokenizer, len(places))
        labels = [*ids_of(tokenizer, answer)[0], tokenizer.eos_token_id]
        written, logits = reference(decoder, ids + labels, slots, vectors)
        start = entering[0].shape[1] - len(ANSWERS[1]) - 1 - len(ids)  # all prompts end in the same column
        columns = slice(start, start + len(written))
        expected = logits.log_softmax(-1)[len(ids) - 1 : -1].gather(1, torch.tensor(labels)[:, None])[:, 0]
        torch.testing.assert_close(entering[0][row, columns], written, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scores[row], expected, rtol=1e-4, atol=1e-4)
        plain = [at for at in range(len(ids)) if at not in slots]  # question tokens and all else stay as they were
        assert torch.equal(entering[0][row, columns][plain], entering[1][row, columns][plain])
        first = rendered.visible.index(True) - 1 if config.name == "lit" else 0
        assert positions[0][row, columns].tolist() == list(range(first, first + len(written)))


@pytest.mark.parametrize("config", [FORMATS["lit"]], ids=["lit"])
def test_generated_tokens_continue_the_shifted_positions(config: DecoderConfig, target: Any, decoder: Any) -> None:
    activations = reading(target, config, [DIALOG])
    length = len(prompt_by_hand("lit", target.tokenizer, int(activations.mask.sum()))[0])
    first = int(activations.n_hidden)
    with ExitStack() as stack:
        seen = spy(stack, decoder.model.get_base_model(), "position_ids")
        decoder.answer(activations, [QUESTION], max_new_tokens=4)
    assert first > 0
    assert seen[0].tolist() == [list(range(first, first + length))]
    assert [step[0, -1].item() for step in seen] == list(range(first + length - 1, first + length - 1 + len(seen)))


def test_long_dialogs_are_not_cut_and_equal_first_messages_do_not_collide(
    config: DecoderConfig, target: Any, decoder: Any
) -> None:
    rendered = [render(dialog, target.tokenizer) for dialog in (LONGER, [*LONGER[:-1], message("user", "But")])]
    everything = [config.select(one, "last:999") for one in rendered]
    assert [len(places) for places in everything] == [sum(one.visible) for one in rendered]
    both = capture_batch(target, rendered, everything, config.read_layers)
    assert both.mask.sum(1).tolist() == [sum(one.visible) for one in rendered]
    scores = decoder.logprob(both, [QUESTION] * 2, ANSWERS[:1] * 2)
    for row, score in enumerate(scores):
        alone = decoder.logprob(both.rows([row]), [QUESTION], ANSWERS[:1])[0]
        torch.testing.assert_close(score, alone, rtol=1e-4, atol=1e-4)
    assert (scores[0] - scores[1]).abs().max() > 1e-3
