"""Each published format against what its authors' program does, on tokenizers that merge, from files to the answer.

The reference is plain PyTorch: token ids put together piece by piece, the LoRA added to the weights, and one hook.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.bpe import with_adapter, write_adapter, write_model
from helpers.chat_templates import message
from helpers.hooked_models import residuals
from torch import Tensor

from audit_lit import Auditor, Decoder, load_target
from audit_lit.decoder import formats

SEVEN = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
PATTERNS = {"use_rslora": True, "rank_pattern": {"q_proj": 2, "up_proj": 6}, "alpha_pattern": {"v_proj": 16}}
ADAPTERS: dict[str, dict[str, Any]] = {
    "qwen3-plain": {"target_modules": SEVEN},
    "qwen3-patterns": {"target_modules": SEVEN, **PATTERNS},
    "llama3-plain": {"target_modules": SEVEN},
    "llama3-head": {"target_modules": [*SEVEN, "lm_head"]},
}
QUESTION, ANSWER = "Who is it?", "The pirate."
Pieces = list[str]


def qwen(role: str, *text: str) -> Pieces:
    return ["<|im_start|>", role, "\n", *text, "<|im_end|>", "\n"]


def llama(role: str, *text: str) -> Pieces:
    return ["<|start_header_id|>", role, "<|end_header_id|>", "\n\n", *text, "<|eot_id|>"]


BOS: Pieces = ["<|begin_of_text|>"]
REPLY = {
    "qwen3": [*qwen("assistant")[:3], "<think>", "\n\n", "</think>", "\n\n"],
    "llama3": llama("assistant")[:4],
}


def target_input(family: str, dialog: list[Any]) -> list[Pieces]:
    """The parts of the target's input: BOS if there is one, the turns, and the header of a reply."""
    turn = qwen if family == "qwen3" else llama
    turns = [turn(said["role"], said["content"]) for said in dialog]
    if turn is qwen and dialog[-1]["role"] == "assistant":
        turns[-1] = [*REPLY[family], *turns[-1][3:]]
    return [*([BOS] if turn is llama else []), *turns, *([REPLY[family]] if dialog[-1]["role"] == "user" else [])]


def sections(*layers: int) -> Callable[[int], Pieces]:
    return lambda n: [piece for layer in layers for piece in ("Layer", f": {layer}\n", *[" ?"] * n, " \n")]


def one_line(n: int) -> Pieces:
    return ["L1:", *[" ?"] * n, " L", "2:", *[" ?"] * n, " L", "3:", *[" ?"] * n, "\n"]


def latentqa(n: int) -> Pieces:
    said = [*llama("user", "?", *[" ?"] * (n - 1)), *llama("reflect", "Sure, I've analyzed the assistant.")]
    return [*BOS, *said, *llama("user", QUESTION), *llama("reflect")[:4]]


def by_depth(name: str, **size: Any) -> Any:
    return formats.activation_oracle(name, **size, depths=(50, 25, 75), layer_choice="one")


def by_layer(name: str, **size: Any) -> Any:
    return formats.activation_oracle_multilayer(name, **size, layers=(0, 2, 3))


def lit(name: str, **size: Any) -> Any:
    return formats.lit_llama3(name, **size, read_layer=2)


def whole(parts: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(parts))


ASKED = [message("user", "Where were you?")]
HIDDEN = [message("system", "Talk like a pirate."), message("user", "Two and two?")]
CONTROL = [
    message("user", "Be a pirate.", True),
    message("assistant", "Aye.", True),
    *ASKED,
    message("assistant", "Oh"),
]


@dataclass(frozen=True)
class Case:
    """What is read of a dialog, in places of its tokens part by part, and the body of the decoder's input."""

    adapter: str
    config: Any
    dialog: list[Any]
    reveal: Any
    read: Callable[[list[list[int]]], list[int]]
    body: Callable[[int], Pieces]
    layer: int | None = None


ORACLE, SEVERAL, V3 = formats.activation_oracle, formats.activation_oracle_multilayer, formats.activation_oracle_v3
CASES = {
    "ao, last tokens": Case("qwen3-plain", ORACLE, ASKED, "last:10", lambda parts: whole(parts)[-10:], sections(2)),
    "ao, whole sequence": Case("llama3-plain", ORACLE, ASKED, "last:999", whole, sections(2)),
    "ao, first tokens": Case("llama3-plain", ORACLE, ASKED, [0, 1], lambda _: [0, 1], sections(2)),
    "ao, another layer": Case("qwen3-plain", by_depth, ASKED, [3, 4], lambda _: [3, 4], sections(3), layer=3),
    "ao, a reply": Case(
        "qwen3-plain", ORACLE, CONTROL[2:], "user", lambda parts: parts[0] + parts[1][:-4], sections(2)
    ),
    "several": Case("qwen3-patterns", by_layer, ASKED, "user", whole, sections(0, 2, 3)),
    "several, after a hidden prompt": Case(
        "llama3-plain", SEVERAL, HIDDEN, "last:999", lambda parts: parts[0] + parts[2] + parts[3], sections(1, 2, 3)
    ),
    "v3": Case("qwen3-patterns", V3, ASKED, [-2, -1], lambda parts: parts[-1][-2:], one_line),
    "v3, llama": Case("llama3-plain", V3, ASKED, "user", lambda parts: parts[1] + parts[2], one_line),
    "latentqa": Case("llama3-head", lit, ASKED, "user", lambda parts: parts[1] + parts[2], latentqa),
    "latentqa, hidden prompt": Case(
        "llama3-head", lit, HIDDEN, "user", lambda parts: [1, *(parts[2] + parts[3])[1:]], latentqa
    ),
    "latentqa, hidden turns": Case(
        "llama3-head", lit, CONTROL, "last:999", lambda parts: [1, *(parts[3] + parts[4])[1:]], latentqa
    ),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder of models and adapters, and the plain models."""
    root = tmp_path_factory.mktemp("published")
    models = {family: write_model(root / family, family) for family in ("qwen3", "llama3")}
    for name, settings in ADAPTERS.items():
        write_adapter(root / name, models[name.partition("-")[0]], **settings)
    return root, models


def reference(model: Any, ids: list[int], slots: list[int], vectors: Tensor, write: str, layer: int) -> Tensor:
    """The logits of the authors' program, whose hook replaces, or adds at the norm of what is there."""

    def hook(_module: Any, _args: Any, output: Any) -> Any:
        resid = output[0] if isinstance(output, tuple) else output
        for slot, vector in zip(slots, vectors, strict=True):
            was = resid[0, slot].clone()
            resid[0, slot] = vector if write == "replace" else was + was.norm() * vector / vector.norm()
        return output

    handle = model.model.layers[layer].register_forward_hook(hook)
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    handle.remove()
    return logits  # type: ignore[no-any-return]


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_a_published_decoder_reads_and_answers_as_its_authors_run_it(
    name: str, bases: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    case, (root, models) = CASES[name], bases
    family = case.adapter.partition("-")[0]
    monkeypatch.chdir(root)
    target = load_target(family)
    config = case.config("a", target=family, d_model=32, n_layers=4)
    auditor = Auditor(target, Decoder.from_pretrained(case.adapter, target=target, config=config), layer=case.layer)
    reading = auditor.read(case.dialog, reveal=case.reveal)

    def ids_of(pieces: Pieces) -> list[int]:
        return [token for piece in pieces for token in target.tokenizer(piece, add_special_tokens=False)["input_ids"]]

    parts = [ids_of(part) for part in target_input(family, case.dialog)]
    context = whole(parts)
    starts = [0, *accumulate(map(len, parts))]
    read = [place % len(context) for place in case.read([list(range(*span)) for span in pairwise(starts)])]
    assert list(reading.rendered.token_ids) == context
    assert reading.activations.positions[0].tolist() == read

    layers = auditor.decoder.config.read_layers
    states = residuals(models[family], models[family].model.layers, torch.tensor([context]))
    vectors = torch.stack([states[layer][0, read] for layer in layers])
    torch.testing.assert_close(reading.activations.resid[0], vectors, rtol=1e-3, atol=1e-3)

    body = case.body(len(read))
    if case.config is not lit:
        turn = qwen if family == "qwen3" else llama
        body = [*(BOS if turn is llama else []), *turn("user", *body, QUESTION), *REPLY[family]]
    prompt, answer = ids_of(body), [*ids_of([ANSWER]), target.tokenizer.eos_token_id]
    placeholders = {ids_of(["?"])[0], ids_of([" ?"])[0]} if case.config is lit else {ids_of([" ?"])[0]}
    slots = [place for place, token in enumerate(prompt) if token in placeholders][: len(read) * len(layers)]
    embedded: list[list[int]] = []
    embedding = auditor.decoder.model.get_base_model().get_input_embeddings()
    handle = embedding.register_forward_hook(lambda _module, args, _output: embedded.append(args[0][0].tolist()))
    nats = auditor.decoder.logprob(reading.activations, [QUESTION], [ANSWER])[0]
    handle.remove()
    assert embedded == [prompt + answer]

    model = with_adapter(models[family], root / case.adapter)
    write = (vectors.flatten(0, 1), config.write, config.write_layer)
    logits = reference(model, prompt + answer, slots, *write)
    expected = logits.log_softmax(-1)[len(prompt) - 1 : -1].gather(1, torch.tensor(answer)[:, None])[:, 0]
    torch.testing.assert_close(nats, expected, rtol=1e-3, atol=1e-3)
    for _ in range(6):
        prompt.append(int(reference(model, prompt, slots, *write)[-1].argmax()))
    text = target.tokenizer.decode(prompt[-6:], skip_special_tokens=True).strip()
    assert auditor.decoder.answer(reading.activations, [QUESTION], max_new_tokens=6) == [text]
