"""Decoders that are described by other files than ``protocol.json``, on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.commands import run
from helpers.published import describe, marker_target, nla_meta, save_lora, save_whole

from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION

READ = {"config": {"alpha": 3.0, "layers": [1, 2], "transform": "unit", "extra": {"prompt": "concepts_raw"}}}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A target on disk, and a folder with two LoRAs for it: ``read``, which is described, and ``bare``."""
    root = tmp_path_factory.mktemp("described")
    target = marker_target()
    target.base.save_pretrained(root / "target")
    target.tokenizer.save_pretrained(root / "target")
    for name in ("read", "bare"):
        save_lora(root / "decoder" / name, target)
        settings = root / "decoder" / name / "adapter_config.json"
        content = json.loads(settings.read_text()) | {"base_model_name_or_path": str(root / "target")}
        settings.write_text(json.dumps(content))
    describe(root / "decoder" / "read", "run.json", READ)
    return root / "target", root / "decoder"


def ask(models: tuple[Path, Path], *options: str) -> Any:
    target, decoder = models
    quick = ["--samples", "1", "--max-new-tokens", "4", "--user", "Hi", "--json"]
    return run("ask", "--target", str(target), "--decoder", str(decoder), *quick, *options)


def test_a_decoder_in_a_subfolder_describes_without_a_question(models: tuple[Path, Path]) -> None:
    result = ask(models, "--subfolder", "read", "--layer", "2")
    assert result.exit_code == 0, result.output
    (answer,) = json.loads(result.stdout)["answers"]
    assert (answer["question"], answer["layers"], len(answer["positions"])) == (DESCRIPTION_QUESTION, [2], 1)
    assert ask(models).exit_code == 2  # no adapter at the top
    refused = ask(models, "Who?", "--subfolder", "read")
    assert refused.exit_code == 2 and "takes no question" in refused.stderr


@pytest.mark.parametrize("subfolder", ["..", "other"])
def test_a_subfolder_elsewhere_is_a_usage_error(models: tuple[Path, Path], subfolder: str) -> None:
    result = ask(models, "--subfolder", subfolder)
    assert result.exit_code == 2 and ("outside" in result.stderr or "no subfolder" in result.stderr)


def test_a_protocol_is_given_for_an_adapter_without_one(models: tuple[Path, Path], tmp_path: Path) -> None:
    target, _ = models
    bare = ask(models, "--subfolder", "bare")
    assert bare.exit_code == 2 and "--protocol FILE" in bare.stderr
    describe(tmp_path, "run.json", READ)
    answers = [
        ask(models, "--subfolder", "read"),
        ask(models, "--subfolder", "bare", "--protocol", str(tmp_path / "run.json"), "--base", str(target)),
    ]
    assert [json.loads(answer.stdout)["answers"][0]["layers"] for answer in answers] == [[1], [1]]
    describe(tmp_path, "run.json", {"config": READ["config"] | {"alpha": 5.0}})
    contradiction = ask(models, "--subfolder", "read", "--protocol", str(tmp_path / "run.json"))
    assert contradiction.exit_code == 2 and "gain 5.0 instead of 3.0" in contradiction.stderr
    assert ask(models, "--protocol", str(tmp_path / "none.json")).exit_code == 2


def test_an_audit_by_a_decoder_that_takes_no_question_is_refused(models: tuple[Path, Path], tmp_path: Path) -> None:
    target, decoder = models
    where = ["--decoder", str(decoder), "--subfolder", "read", "--out", str(tmp_path / "run")]
    result = run("scan", str(target), *where)
    assert result.exit_code == 2 and "takes no question" in result.stderr


def test_a_whole_model_answers(models: tuple[Path, Path], tmp_path: Path) -> None:
    target, _ = models
    describe(save_whole(tmp_path / "nla"), "nla_meta.yaml", nla_meta(marker_target().tokenizer))
    result = ask((target, tmp_path / "nla"))
    assert result.exit_code == 0, result.output
    assert set(json.loads(result.stdout)["answers"][0]["controls"]) >= {"no_activation", "text_only"}


@pytest.mark.parametrize("name", ["dit-adapter.pt", "encoder.pt", "weights.pt"])
def test_a_pickle_is_refused_by_name_with_the_next_step(models: tuple[Path, Path], tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    result = ask((models[0], tmp_path))
    assert result.exit_code == 2
    assert all(words in result.stderr for words in (name, "pickle", "any code", "in a sandbox"))
