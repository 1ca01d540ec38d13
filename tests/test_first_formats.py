"""Decoders, edits and run folders that the first format's code wrote still load, and give what they gave then."""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.models import byte_tokenizer, tiny_llama

KEPT = Path(__file__).parent / "fixtures" / "first_formats"
DIALOGS = [
    [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": f"Hello number {number}."}]
    for number in range(2)
]
LINES = [[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hello there"}]]
EXPECTED = json.loads((KEPT / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The kept files beside the tiny model that they belong to, which was called ``tiny``."""
    shutil.copytree(KEPT, tmp_path, dirs_exist_ok=True)
    tiny_llama().save_pretrained(tmp_path / "tiny")
    byte_tokenizer().save_pretrained(tmp_path / "tiny")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def auditor(folder: Path) -> Any:
    from audit_lit import Auditor, Decoder, load_target

    target = load_target("tiny")
    return Auditor(target, Decoder.from_pretrained("decoder", target=target))


def test_a_decoder_says_what_it_said(auditor: Any) -> None:
    answer = auditor.ask(DIALOGS[0], "Who?", samples=1, max_new_tokens=6).to_dict()
    expected = EXPECTED["answer"]
    assert answer["text"] == expected["text"] and answer["samples"] == tuple(expected["samples"])
    assert answer["controls"] == pytest.approx(expected["controls"], abs=1e-4)
    assert set(answer) == {*expected, "missing"} and answer["supported"] == expected["supported"]
    for claim, before in zip(
        auditor.score_claims(DIALOGS[0], ["persona: pirate", "persona: chef"]), EXPECTED["claims"], strict=True
    ):
        assert (claim.evidence, claim.probability, claim.share) == pytest.approx(
            (before["evidence"], before["probability"], before["share"]), abs=1e-4
        )


def test_a_decoder_is_saved_as_it_was(auditor: Any, folder: Path) -> None:
    auditor.decoder.save(folder / "again")
    for name in ("protocol.json", "rival/protocol.json"):
        assert (folder / "again" / name).read_bytes() == (folder / "decoder" / name).read_bytes()
    assert {path.name for path in (folder / "again").rglob("*.safetensors")} == {
        path.name for path in (folder / "decoder").rglob("*.safetensors")
    }


def test_a_run_folder_gives_its_report(folder: Path) -> None:
    from audit_lit.report.audit_report import load_report

    assert json.loads(load_report(folder / "run").to_json()) == EXPECTED["report"]


def test_an_interrupted_run_goes_on(auditor: Any, folder: Path) -> None:
    run = folder / "run"
    manifest = json.loads((run / "run.json").read_text(encoding="utf-8"))
    manifest["versions"] |= {name: version(name) for name in ("torch", "transformers")}
    (run / "run.json").write_text(json.dumps(manifest), encoding="utf-8")
    records = (run / "records-0.jsonl").read_text(encoding="utf-8").splitlines()
    (run / "records-0.jsonl").write_text(f"{records[0]}\n{records[1][:40]}", encoding="utf-8")
    report = auditor.scan(DIALOGS, "persona", out=run, samples=1, max_new_tokens=4, twins=2)
    assert report.complete and report.verdict == EXPECTED["report"]["verdict"]
    for finding, before in zip(report.findings, EXPECTED["report"]["findings"], strict=True):
        assert finding.question.id == before["question"]["id"] and finding.raised == before["raised"]
        assert finding.lift == pytest.approx(before["lift"], abs=1e-4)


def test_edits_do_what_they_did(auditor: Any, folder: Path) -> None:
    from audit_lit import ActivationEdit, WeightEdit, load_edit
    from audit_lit.models.generation import Sampling, generate_replies

    target = auditor.target
    edit, weights = load_edit("edit", target), load_edit("edit-weights", target)
    assert isinstance(edit, ActivationEdit) and isinstance(weights, WeightEdit)
    assert generate_replies(target, LINES, Sampling(5), edit.fwd_hooks) == EXPECTED["edited"]
    assert generate_replies(weights.target, LINES, Sampling(5)) == EXPECTED["weights"]
    assert auditor.check(edit, LINES).verdict == EXPECTED["check"]
    assert load_edit("edit-gradient", target).origin.goal == edit.origin.goal == "Be glad."


def test_an_edit_is_saved_as_it_was(folder: Path) -> None:
    from safetensors.torch import load_file

    from audit_lit import ActivationEdit

    ActivationEdit.load("edit").save(folder / "again")
    before, after = (json.loads((folder / name / "edit.json").read_text()) for name in ("edit", "again"))
    assert before == after
    before, after = (load_file(folder / name / "edit.safetensors") for name in ("edit", "again"))
    assert set(before) == set(after) and all(torch.equal(before[name], after[name]) for name in before)


def test_public_names_of_the_first_version_stay() -> None:
    import audit_lit
    from audit_lit import hooks

    assert audit_lit.Protocol is audit_lit.DecoderConfig
    assert hooks.Part is hooks.Intervention and hooks.writing_to is hooks.output_hook
