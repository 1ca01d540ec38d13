"""Runs of other tools become the readings that the target itself gives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer

from audit_lit import Auditor, Reading
from audit_lit.errors import ActivationError, DecoderMismatch
from audit_lit.exchange import Run, check_layers, plan, reading_of

LAYERS = (1, 2)


@pytest.fixture
def runs(target: Any, make_decoder: Any, dialog: Any, outputs: Any) -> tuple[Any, list[Run]]:
    """A plan, and its runs."""
    planned = plan(dialog, make_decoder())
    return planned, [run_of(outputs(prompt)) for prompt in planned.prompts]


def run_of(blocks: list[torch.Tensor], layers: tuple[int, ...] = LAYERS) -> Run:
    return Run(torch.cat([blocks[layer] for layer in layers]), layers)


@pytest.mark.parametrize("write", ["add", "project"])
def test_answers_about_runs_of_another_tool_are_those_about_the_target(
    target: Any, make_decoder: Any, dialog: Any, outputs: Any, tmp_path: Path, write: str
) -> None:
    decoder = make_decoder(write=write, positions="edges")
    planned = plan(dialog, decoder)
    reading = reading_of(planned, [run_of(outputs(prompt)) for prompt in planned.prompts], decoder.config.target)
    reading.save(tmp_path / "a.safetensors")
    settings: dict[str, Any] = {"samples": 1, "max_new_tokens": 5}
    expected = Auditor(target, decoder).ask(dialog, "Who?", **settings)
    answer = Auditor.without_target(decoder).ask(Reading.load(tmp_path / "a.safetensors"), "Who?", **settings)
    assert answer.text == expected.text and answer.samples == expected.samples and answer.tokens == expected.tokens
    assert answer.missing == () and answer.positions == expected.positions
    assert answer.controls == pytest.approx(expected.controls, abs=1e-4)


def test_the_first_run_alone_gives_a_reading_without_decoys(runs: Any) -> None:
    planned, (first, *_) = runs
    reading = reading_of(planned, [first], "tiny", revision="abc", fingerprint="0123")
    assert reading.decoys is None and (reading.revision, reading.fingerprint) == ("abc", "0123")
    with pytest.raises(ActivationError, match="got 2 runs for a plan of 9"):
        reading_of(planned, [first, first], "tiny")


def test_runs_of_other_prompts_are_refused(runs: Any) -> None:
    planned, (first, second, *_) = runs
    token_ids = planned.rendered[0].token_ids
    with pytest.raises(
        ActivationError, match=f"{len(token_ids) + 1} positions, and the dialog {len(token_ids)} tokens"
    ):
        reading_of(planned, [Run(torch.cat([first.resid, first.resid[:, :1]], dim=1), LAYERS)], "tiny")
    swapped = (*token_ids[:3], token_ids[3] + 1, *token_ids[4:])
    with pytest.raises(ActivationError, match=f"has token {token_ids[3] + 1} at position 3, and the dialog"):
        reading_of(planned, [Run(first.resid, LAYERS, swapped)], "tiny")
    others = [Run(second.resid, (0, 1)), *runs[1][2:]]
    with pytest.raises(ActivationError, match="expected the same in all"):
        reading_of(planned, [first, *others], "tiny")


@pytest.mark.parametrize(
    ("shape", "layers", "token_ids", "words"),
    [
        ((2, 3, 4), (1,), None, "for the layers"),
        ((3, 4), (1, 2, 3), None, "expected floats"),
        ((2, 3, 4), (1, 1), None, "each once"),
        ((2, 3, 4), (-1, 0), None, "the embedding is no layer"),
        ((2, 3, 4), (0, 1), (5, 6), "2 token ids for 3 positions"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_residuals_that_do_not_fit_their_layers_are_refused(
    shape: Any, layers: Any, token_ids: Any, words: str
) -> None:
    with pytest.raises(ActivationError, match=f"(?i){words}"):
        Run(torch.randn(shape), layers, token_ids)


def test_a_model_that_runs_here_shows_how_a_tool_counts_its_layers(target: Any, runs: Any) -> None:
    planned, (first, *_) = runs
    check_layers(first, target, planned)
    check_layers(Run(first.resid.bfloat16(), LAYERS), target, planned)
    with pytest.raises(ActivationError, match="calls layer 2 is nearest to the output of block 1"):
        check_layers(Run(first.resid, (2, 3)), target, planned)
    with pytest.raises(ActivationError, match="differs by"):
        check_layers(Run(first.resid * 1.5, LAYERS), target, planned)


def test_the_tokenizer_of_another_target_must_be_given(make_decoder: Any, dialog: Any) -> None:
    decoder = make_decoder(base="org/other")
    with pytest.raises(DecoderMismatch, match="whose tokenizer it does not have"):
        plan(dialog, decoder)
    assert plan(dialog, decoder, tokenizer=byte_tokenizer()).prompts == plan(dialog, make_decoder()).prompts


def test_the_first_slot_of_latentqa_is_kept_as_its_target_would(
    target: Any, make_decoder: Any, dialog: Any, outputs: Any, tmp_path: Path
) -> None:
    decoder = make_decoder(first_position=1, shift_positions=True)
    auditor, alone = Auditor(target, decoder), Auditor.without_target(decoder)
    for messages in (dialog, dialog[1:]):
        planned = plan(messages, decoder, n_twins=2)
        runs = [run_of(outputs(prompt), (2,)) for prompt in planned.prompts]
        check_layers(runs[0], target, planned)
        reading_of(planned, runs, decoder.config.target).save(tmp_path / "a")
        loaded, expected = Reading.load(tmp_path / "a"), auditor.read(messages)
        for name in ("activations", "decoys"):
            for kept, read in zip(
                loaded.parts[name].tensors().values(), expected.parts[name].tensors().values(), strict=True
            ):
                torch.testing.assert_close(kept, read, rtol=1e-4, atol=1e-5)
        assert loaded.tokens == expected.tokens and loaded.twins is not None and len(loaded.twins) == 2
        assert alone.ask(loaded, "Who?", samples=0, max_new_tokens=3).missing == ()
