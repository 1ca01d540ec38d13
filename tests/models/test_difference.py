"""Differences: measured at the same tokens of both models, and put on activations at a chosen length."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, tiny_llama

from audit_lit import load_target
from audit_lit.chat.rendering import render
from audit_lit.errors import TargetError
from audit_lit.models.capture import capture_dialogs
from audit_lit.models.difference import Difference
from audit_lit.models.probe_texts import EDGES, N_EDGE, ProbeTexts, edges, mean_difference, slots_of

LINES = ["How was your morning?", "What makes a good breakfast?", "I have three hours free."]


@pytest.fixture
def tuned(tiny_folder: Path, tmp_path: Path) -> Any:
    """The tiny model after something was trained into its second block."""
    model = tiny_llama()
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.add_(0.05 * torch.randn(32, 64))
    model.save_pretrained(tmp_path / "tuned")
    byte_tokenizer().save_pretrained(tmp_path / "tuned")
    return load_target(str(tmp_path / "tuned"))


def test_the_difference_is_the_mean_of_plain_subtraction(target: Any, tuned: Any) -> None:
    difference = mean_difference(tuned, target, LINES, [1, 2])
    texts = ProbeTexts.of(target, LINES)
    rows = []
    for chat, positions, bare in zip(texts.chats, texts.positions, texts.bare, strict=True):
        row = []
        for tokens, kept in ((chat.token_ids, positions), (bare.token_ids, range(N_EDGE))):
            with torch.no_grad():
                states = [
                    model.base(torch.tensor([tokens]), output_hidden_states=True).hidden_states[3][0, list(kept)]
                    for model in (tuned, target)
                ]
            row.append(states[0] - states[1])
        rows.append(torch.cat(row))
    torch.testing.assert_close(difference.mean[1], torch.stack(rows).mean(0), atol=1e-5, rtol=1e-3)
    assert difference.mean.shape == (2, EDGES + 2 * N_EDGE, 32) and difference.n_lines == 3


def test_replies_are_the_baselines_own_and_the_same_for_both(target: Any) -> None:
    texts = ProbeTexts.of(target, LINES)
    for chat, positions in zip(texts.chats, texts.positions, strict=True):
        prompt, reply = chat.token_ids[:-N_EDGE], chat.token_ids[-N_EDGE:]
        written = target.base.generate(torch.tensor([prompt]), max_new_tokens=N_EDGE, do_sample=False, eos_token_id=-1)
        assert written[0, len(prompt) :].tolist() == list(reply)
        assert positions[-N_EDGE:] == tuple(range(len(prompt), len(chat.token_ids)))


def test_added_differences_have_the_length_that_is_asked_for(target: Any, tuned: Any) -> None:
    difference = mean_difference(tuned, target, LINES, [2]).at([2], EDGES)
    rendered = render([{"role": "user", "content": "Who are you?"}], target.tokenizer)
    base = capture_dialogs(target, [rendered], [edges(rendered)], [2])
    for amplitude in (0.25, 1.0):
        change = difference.added_to(base, torch.arange(EDGES), amplitude).resid - base.resid
        assert float(change.norm(dim=-1).mean() / difference.norms) == pytest.approx(amplitude, rel=1e-4)
        cosine = torch.cosine_similarity(change.flatten(), difference.mean.flatten(), dim=0)
        assert float(cosine) == pytest.approx(1, abs=1e-5)


def test_slots_of_the_edges_are_their_own_and_inner_tokens_have_that_of_the_end(target: Any) -> None:
    rendered = render([{"role": "user", "content": "Who are you, and what for?"}], target.tokenizer)
    assert slots_of(rendered, edges(rendered)).tolist() == list(range(EDGES))
    inner = edges(rendered)[N_EDGE] - 2
    assert slots_of(rendered, [inner]).tolist() == [N_EDGE]


def test_a_copy_differs_in_nothing_and_rounding_is_told_from_training(target: Any, tiny_folder: Path) -> None:
    with pytest.raises(TargetError, match=r"nothing was trained into .* by 0\.0% of their length; .*nothing to report"):
        mean_difference(target, target, LINES, [2])
    rounded = load_target(str(tiny_folder), dtype="bfloat16")
    with pytest.raises(TargetError, match="which rounding explains"):
        mean_difference(rounded, target, LINES, [1])


def test_models_of_other_shapes_and_tokens_are_refused(target: Any, tmp_path: Path) -> None:
    tiny_llama(n_layers=3).save_pretrained(tmp_path / "short")
    byte_tokenizer().save_pretrained(tmp_path / "short")
    with pytest.raises(TargetError, match=r"has 3 layers of width 32, and the baseline .* 4 of width 32"):
        mean_difference(load_target(str(tmp_path / "short")), target, LINES, [2])
    tiny_llama().save_pretrained(tmp_path / "spoken")
    byte_tokenizer("{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}bot:").save_pretrained(
        tmp_path / "spoken"
    )
    with pytest.raises(TargetError, match="turn the same dialog into other tokens"):
        mean_difference(load_target(str(tmp_path / "spoken")), target, LINES, [2])


def test_a_layer_that_was_not_read_is_named() -> None:
    difference = Difference.between(torch.ones(1, 1, 2, 4), torch.zeros(1, 1, 2, 4) + 0.1, [3])
    with pytest.raises(TargetError, match=r"layer 5 of the difference was not read; it has layers \[3\]"):
        difference.at([5], 2)
