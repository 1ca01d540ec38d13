"""Asking what training changed: the baseline's activations with the difference added, beside other organisms'."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, tiny_llama

from audit_lit import Auditor, Reading, load_target
from audit_lit.answers.rivals import FACTOR, rivals
from audit_lit.chat.decoys import N_DECOYS
from audit_lit.errors import DialogError, ScanError, SettingsError, TargetError
from audit_lit.models.amplified import amplified
from audit_lit.models.capture import capture_batch
from audit_lit.models.difference import AMPLITUDE, Difference
from audit_lit.models.generation import score_replies
from audit_lit.models.loading import weights_fingerprint
from audit_lit.models.lora_bank import LoraBank, peft_files
from audit_lit.models.probe_texts import EDGES, N_EDGE
from audit_lit.organisms.library import Known, Library

DIALOG = [{"role": "user", "content": "Who are you?"}]
LAYERS = (2,)


def library(target: Any, n: int = 16) -> Library:
    """Random differences, of which the second half are clean."""
    generator = torch.Generator().manual_seed(3)
    means = torch.randn(n, 1, EDGES + 2 * N_EDGE, target.d_model, generator=generator)
    differences = tuple(Difference(mean, torch.ones(1), torch.ones(1), LAYERS, 2) for mean in means)
    forms = [None] * (n // 2) + ["chat"] * (n - n // 2)
    known = tuple(
        Known(id=f"o{row}", label=f"kind: {row}", method="sft", rank=1, mixed=False, split="train", form=form)
        for row, form in enumerate(forms)
    )
    return Library(known, differences, target.name, target.fingerprint())


@pytest.fixture(scope="module")
def lora(target: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA that changes something, as PEFT saves it."""
    from safetensors.torch import save_file

    from audit_lit.files.writing import dump_json
    from audit_lit.models.adapters import SETTINGS, WEIGHTS

    bank = LoraBank.new(target.base, [2], seeds=[0])
    with torch.no_grad():
        for up in bank.up.values():
            up.copy_(0.1 * torch.randn(up.shape, generator=torch.Generator().manual_seed(1)))
    settings, tensors = peft_files(bank.alone(0), target.base, target.name, 2)
    folder = tmp_path_factory.mktemp("lora")
    (folder / SETTINGS).write_text(dump_json(settings), encoding="utf-8")
    save_file(tensors, folder / WEIGHTS)
    return folder


@pytest.fixture(scope="module")
def suspect(target: Any, lora: Path) -> Any:
    return load_target(target, adapter=lora)


@pytest.fixture
def contrasted(target: Any, suspect: Any, make_decoder: Callable[..., Any]) -> Auditor:
    decoder = make_decoder()
    decoder.config = decoder.config.model_copy(update={"lift_threshold": 0.1})
    return Auditor(suspect, decoder, baseline=target, library=library(target))


def test_a_lora_on_shared_weights_is_the_merged_one_without_a_copy(
    target: Any, suspect: Any, lora: Path, tiny_folder: Path
) -> None:
    merged = load_target(str(tiny_folder), adapter=lora)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected, before = merged.model(tokens), target.model(tokens)
        torch.testing.assert_close(suspect.model(tokens), expected, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(target.model(tokens), before, atol=0, rtol=0)
    ours = {value.data_ptr() for value in suspect.model.parameters()}
    assert {value.data_ptr() for value in target.base.parameters()} <= ours
    assert weights_fingerprint(suspect.model) != weights_fingerprint(target.model)


def test_a_reading_is_the_baselines_with_the_difference_at_half_a_residual(
    contrasted: Auditor, target: Any, suspect: Any
) -> None:
    reading = contrasted.read(DIALOG)
    base = capture_batch(target, [reading.rendered], [reading.positions], LAYERS)
    difference = contrasted.session.contrast.difference(LAYERS)
    change = reading.activations.resid - base.resid
    assert change.norm(dim=-1).max() > 0
    at_start = change[0, 0, 0]
    expected = difference.mean[0, 0] * AMPLITUDE / difference.at(LAYERS, EDGES).sizes[0]
    torch.testing.assert_close(at_start, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(reading.twins.resid[0], base.resid[0])
    assert len(reading.twins) == 9 and len(reading.decoys) == N_DECOYS
    assert reading.activations.source == f"{suspect.name} minus {target.name}"


def test_answers_come_beside_other_organisms_and_what_the_target_replies(contrasted: Auditor) -> None:
    answer = contrasted.ask(DIALOG, "What was it trained to be?", samples=0, max_new_tokens=5)
    assert {"shuffled", "null", "no_activation", "text_only"} <= set(answer.controls) and not answer.missing
    (claim,) = contrasted.score_claims(DIALOG, ["persona: pirate"])
    assert claim.probability is None and "shuffled" in claim.controls  # the scale was measured on prompts


def test_without_organisms_answers_cannot_be_judged(
    target: Any, suspect: Any, make_decoder: Callable[..., Any]
) -> None:
    auditor = Auditor(suspect, make_decoder(), baseline=target)
    assert auditor.ask(DIALOG, "What?", samples=0, max_new_tokens=3).missing == ("shuffled",)
    with pytest.raises(ScanError, match=r"there are no organisms of .* 'audit-lit organisms build"):
        auditor.scan([DIALOG], "weights")


def test_a_reading_of_a_difference_can_be_asked_about_again(contrasted: Auditor, tmp_path: Path) -> None:
    reading = contrasted.read(DIALOG)
    alike = {"samples": 0, "max_new_tokens": 5}
    answer = contrasted.ask(DIALOG, "What?", **alike)
    again = contrasted.ask(reading, "What?", **alike)
    assert again.controls == answer.controls and again.text == answer.text
    reading.save(tmp_path / "reading.safetensors")
    contrasted.score_claims(Reading.load(tmp_path / "reading.safetensors"), ["persona: pirate"])


def test_the_command_asks_about_a_lora(
    target: Any, lora: Path, tiny_folder: Path, make_decoder: Callable[..., Any], tmp_path: Path
) -> None:
    from click.testing import CliRunner

    from audit_lit.cli import cli

    make_decoder().save(tmp_path / "decoder")
    library(target).save(tmp_path / "library.safetensors")
    words = ["ask", "--target", str(tiny_folder), "--adapter", str(lora), "--decoder", str(tmp_path / "decoder")]
    words += ["--library", str(tmp_path / "library.safetensors"), "--samples", "0", "--max-new-tokens", "3", "What?"]
    result = CliRunner().invoke(cli, [*words, "--baseline", str(tiny_folder), "--json"])
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)["answers"]
    assert " minus " in answer["target"] and "shuffled" in answer["controls"]
    alone = CliRunner().invoke(cli, words)
    assert alone.exit_code == 2 and "--library is compared with by --baseline" in alone.stderr


def test_a_library_of_another_base_or_without_a_baseline_is_refused(
    target: Any, suspect: Any, make_decoder: Callable[..., Any]
) -> None:
    other = replace(library(target), fingerprint="0" * 16 + "-" + "0" * 64)
    with pytest.raises(TargetError, match="is another model than"):
        Auditor(suspect, make_decoder(), baseline=target, library=other)
    with pytest.raises(SettingsError, match="no baseline to tell"):
        Auditor(suspect, make_decoder(), library=library(target))


def test_a_loaded_target_takes_no_other_place_or_type_for_a_lora(target: Any, lora: Path) -> None:
    with pytest.raises(TargetError, match="is loaded already"):
        load_target(target, adapter=lora, dtype="bfloat16")


def test_a_library_with_too_few_clean_organisms_is_refused(contrasted: Auditor, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="has 8 clean organisms and 8 with something planted; expected 40"):
        contrasted.scan([DIALOG], "weights", twins=20)
    with pytest.raises(ScanError, match="a difference is not kept"):
        contrasted.scan([DIALOG], "weights", kept_in=tmp_path / "kept")


def test_hidden_turns_and_other_turns_are_refused(contrasted: Auditor) -> None:
    with pytest.raises(DialogError, match="a dialog without hidden messages"):
        contrasted.ask([{"role": "system", "content": "Be a pirate."}, *DIALOG], "What?")
    with pytest.raises(DialogError, match="reveal='user'"):
        contrasted.ask(DIALOG, "What?", reveal="last:2")


def test_a_target_that_is_its_own_baseline_has_nothing_to_report(target: Any, make_decoder: Callable[..., Any]) -> None:
    auditor = Auditor(target, make_decoder(), baseline=target, library=library(target))
    with pytest.raises(TargetError, match="nothing was trained into"):
        auditor.ask(DIALOG, "What?")


def test_a_baseline_of_another_shape_is_refused(suspect: Any, make_decoder: Callable[..., Any], tmp_path: Path) -> None:
    tiny_llama(n_layers=3).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(TargetError, match="expected the model that the target was trained from"):
        Auditor(suspect, make_decoder(), baseline=load_target(str(tmp_path)))


def test_a_recipe_for_differences_needs_a_baseline(auditor: Auditor) -> None:
    with pytest.raises(ScanError, match="no baseline to tell it by"):
        auditor.scan([DIALOG], "weights")


@pytest.mark.parametrize("is_merged", [False, True])
def test_amplified_weights_are_the_base_and_several_times_the_change(
    is_merged: bool, target: Any, suspect: Any, lora: Path, tiny_folder: Path
) -> None:
    changed = load_target(str(tiny_folder), adapter=lora) if is_merged else suspect
    factored = replace(suspect.lora, scales=tuple(FACTOR * scale for scale in suspect.lora.scales))
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        before = changed.model(tokens)
        with factored.on(target.base):
            expected = target.base(tokens).logits
        with amplified(changed, target, FACTOR):
            torch.testing.assert_close(changed.model(tokens), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(changed.model(tokens), before, atol=0, rtol=0)


def test_a_scan_of_weights_compares_with_clean_fine_tunes_and_shows_rivals(contrasted: Auditor, tmp_path: Path) -> None:
    settings = {"max_new_tokens": 3, "samples": 0, "alpha": 0.2, "twins": 4}
    report = contrasted.scan([DIALOG, [{"role": "user", "content": "Hello?"}]], "weights", out=tmp_path, **settings)
    assert report.complete and report.n_read == 2
    assert report.manifest["baseline"]["name"] == contrasted.session.contrast.baseline.name
    compared = next(finding for finding in report.findings if finding.p_value is not None)
    assert len(compared.neutral_scores) == 2 * report.manifest["n_twins"]
    names = [panel.name for panel in report.rivals]
    assert names == ["tokens", "logit lens", "probe", "amplified", "asked directly", "text reader"]
    assert all(panel.rows for panel in report.rivals)
    for text in (report.to_html(), report.to_markdown()):
        assert "asked directly" in text
    again = contrasted.scan([DIALOG, [{"role": "user", "content": "Hello?"}]], "weights", out=tmp_path, **settings)
    assert again.to_json() == report.to_json()


def test_tokens_that_the_target_finds_likelier_come_first(contrasted: Auditor, target: Any, suspect: Any) -> None:
    panels = {panel.name: panel for panel in rivals(contrasted.session.contrast, contrasted.decoder)}
    from audit_lit.recipes import neutral_lines

    dialogs = [[{"role": "user", "content": line}] for line in neutral_lines()[:20]]
    token, shown = panels["tokens"].rows[0]
    gains = [
        float(ours[0] - theirs[0])
        for ours, theirs in zip(
            *(score_replies(model, dialogs, [token] * 20) for model in (suspect, target)), strict=True
        )
    ]
    assert sum(gains) / 20 == pytest.approx(float(shown.split()[0]), abs=0.06)
