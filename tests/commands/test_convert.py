"""``audit-lit convert``: what to run, and files of what was run; exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.commands import run
from helpers.hooked_models import residuals
from safetensors.torch import save_file

from audit_lit.commands.convert import FORMATS
from audit_lit.exchange import run_files

DIALOG = ["--system", "Be a pirate.", "--user", "Who are you?"]
LAYERS = {"vllm": ["--layers", "2,3"], "vllm-lens": ["--layers", "2, 1"], "nnsight": []}
"""How each tool is told to keep the output of blocks 1 and 2."""


@pytest.fixture
def decoder(make_decoder: Any, tmp_path: Path) -> list[str]:
    make_decoder(lora_scaling=2.0).save(tmp_path / "decoder")
    return ["--decoder", str(tmp_path / "decoder")]


@pytest.fixture
def kept(decoder: list[str], target: Any, tmp_path: Path) -> Callable[[str], list[str]]:
    """Writes what a tool keeps of the prompts that the command prints."""

    def write(form: str) -> list[str]:
        printed = run("convert", *DIALOG, *decoder)
        assert printed.exit_code == 0 and "run these 9 prompts" in printed.stderr, printed.output
        paths = []
        for place, line in enumerate(printed.stdout.splitlines()):
            ids = json.loads(line)
            blocks = [block[0] for block in residuals(target.base, target.base.model.layers, torch.tensor([ids]))]
            tensors = {
                "vllm": {"hidden_states": torch.stack(blocks[1:3], dim=1), "token_ids": torch.tensor(ids)},
                "vllm-lens": {"residual_stream": torch.stack(blocks[1:3])},
                "nnsight": {str(layer): blocks[layer].clone() for layer in (1, 2)},
            }[form]
            paths.append(str(tmp_path / f"run-{place}"))
            save_file(tensors, paths[-1], metadata={"format": "pt"})
        return paths

    return write


def test_the_command_offers_every_format() -> None:
    assert FORMATS == run_files.FORMATS


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_tool_kept_is_asked_about_as_the_target_is(
    decoder: list[str], kept: Any, tiny_folder: Path, tmp_path: Path, form: str
) -> None:
    file = str(tmp_path / "a.safetensors")
    done = run("convert", *kept(form), "--from", form, *LAYERS[form], "--out", file, *DIALOG, *decoder)
    assert done.exit_code == 0 and not done.stdout and file in done.stderr, done.output
    few = ["--samples", "0", "--max-new-tokens", "3", "--json", *decoder]
    asked = run("ask", "Who?", "--activations", file, *few)
    expected = run("ask", "Who?", *DIALOG, "--target", str(tiny_folder), *few)
    assert asked.exit_code == expected.exit_code == 0, asked.output
    (answer,), (other,) = (json.loads(result.stdout)["answers"] for result in (asked, expected))
    assert answer["missing"] == [] and answer["layers"] == other["layers"]
    assert answer["text"] == other["text"] and answer["positions"] == other["positions"]
    assert answer["controls"] == pytest.approx(other["controls"], abs=1e-4)


def test_a_scan_takes_what_was_run_with_twins(decoder: list[str]) -> None:
    printed = run("convert", *DIALOG, "--twins", "3", *decoder)
    assert printed.exit_code == 0 and len(printed.stdout.splitlines()) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "vllm"], "go together"),
        (["FILE", "--from", "vllm", "--layers", "2"], "go together"),
        (["FILE", "--from", "vllm", "--out", "a"], "list that the tool was given"),
        (["FILE", "--from", "nnsight", "--layers", "2", "--out", "a"], "alone name their layers"),
        (["FILE", "--from", "vllm", "--layers", "two", "--out", "a"], "no list of numbers"),
        (["FILE", "--from", "vllm", "--layers", "2", "--out", "a"], "is not a file of vLLM's hidden states"),
        (["FILE", "--from", "vllm-lens", "--layers", "2", "--out", "a"], "expected 'residual_stream'"),
        (["FILE", "--from", "nnsight", "--out", "a"], "expected the output of each block under its number"),
        (["JSON", "--from", "nnsight", "--out", "a"], "is not a file of safetensors"),
    ],
)
def test_what_cannot_be_converted_exits_2(
    decoder: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    save_file({"other": torch.ones(2)}, "FILE")
    Path("JSON").write_text("{}")
    result = run("convert", *arguments, *DIALOG, *decoder)
    assert result.exit_code == 2 and message in result.stderr.replace("\n", " "), result.output
    assert not Path("a").exists()


def test_runs_of_another_dialog_exit_2(decoder: list[str], kept: Any, tmp_path: Path) -> None:
    runs = ["--from", "vllm", "--layers", "2,3", "--out", str(tmp_path / "a")]
    result = run("convert", *kept("vllm"), *runs, "--user", "Hello there", *decoder)
    assert result.exit_code == 2 and "the run has" in result.stderr
    few = run("convert", *kept("vllm")[:2], *runs, *DIALOG, *decoder)
    assert few.exit_code == 2 and "got 2 runs for a plan of 9" in few.stderr


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("1,2", "the run has the layers [0, 1], counted from 0"),  # vLLM counts the embedding
        ("3,99", "the run has the layers [2, 98], counted from 0"),
    ],
)
def test_layers_that_the_decoder_does_not_read_or_the_model_lacks_exit_2(
    decoder: list[str], kept: Any, tmp_path: Path, layers: str, message: str
) -> None:
    out = tmp_path / "a"
    result = run("convert", *kept("vllm"), "--from", "vllm", "--layers", layers, "--out", str(out), *DIALOG, *decoder)
    said = result.stderr.replace("\n", " ")
    assert result.exit_code == 2 and message in said and "none beyond 3, the last of" in said, result.output
    assert not out.exists()


def test_a_file_of_others_is_not_written_over(decoder: list[str], kept: Any, tmp_path: Path) -> None:
    runs = kept("nnsight")
    for other in (runs[0], tmp_path / "notes.txt"):
        (tmp_path / "notes.txt").write_text("mine")
        before = Path(other).read_bytes()
        result = run("convert", *runs, "--from", "nnsight", "--out", str(other), *DIALOG, *decoder)
        assert result.exit_code == 2 and "holds something else, which would be written over" in result.stderr
        assert Path(other).read_bytes() == before
    for _ in range(2):  # one's own is made anew
        result = run("convert", *runs, "--from", "nnsight", "--out", str(tmp_path / "a"), *DIALOG, *decoder)
        assert result.exit_code == 0, result.output
