"""A reading's file: everything comes back, and what is unknown, broken or of another dialog is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from audit_lit import Activations, Auditor, Decoder, Reading, load_target
from audit_lit.answers.reading import PREFIXES
from audit_lit.chat.decoys import N_DECOYS
from audit_lit.chat.rendering import render
from audit_lit.chat.vocabulary import PROMPT_QUESTION
from audit_lit.errors import ActivationError, OutputError

THINKS = [{"role": "user", "content": " Hi "}, {"role": "assistant", "content": "Ho", "hidden": True}]


@pytest.fixture
def reading(auditor: Any, dialog: Any) -> Reading:
    read: Reading = auditor.read(dialog)
    return read


@pytest.fixture
def file(reading: Reading, tmp_path: Path) -> Path:
    reading.save(tmp_path / "a.safetensors")
    return tmp_path / "a.safetensors"


def change(path: Path, tensors: Callable[[dict[str, Any]], object] | None = None, **metadata: str | None) -> None:
    """Change tensors and metadata of a file; None takes metadata out."""
    with safe_open(path, "pt") as opened:
        changed = {**opened.metadata(), **metadata}
    content = load_file(path)
    if tensors:
        tensors(content)
    save_file(content, path, {name: value for name, value in changed.items() if value is not None})


def same(one: Reading, other: Reading) -> bool:
    texts = ("tokens", "visible_text", "dialog", "reveal", "revision", "fingerprint")
    pairs = [(one.parts[name].tensors(), other.parts[name].tensors()) for name in one.parts]
    tensors_agree = all(torch.equal(left[name], right[name]) for left, right in pairs for name in left)
    described = all(getattr(one, name) == getattr(other, name) for name in texts)
    return tensors_agree and described and one.parts.keys() == other.parts.keys()


@pytest.mark.parametrize("parts", [("decoys",), ("decoys", "twins"), ()])
def test_everything_comes_back(reading: Reading, tmp_path: Path, parts: tuple[str, ...]) -> None:
    others = {name: reading.decoys if name in parts else None for name in ("decoys", "twins")}
    changed = replace(reading, revision="abc", **others)
    changed.save(tmp_path / "a")
    loaded = Reading.load(tmp_path / "a")
    assert same(loaded, changed) and loaded.activations.layers == reading.activations.layers
    assert loaded.activations.source == reading.activations.source


@pytest.mark.parametrize("reveal", ["last:2", [-2, -1], (40, 41)])
def test_what_was_revealed_comes_back(auditor: Any, dialog: Any, tmp_path: Path, reveal: Any) -> None:
    auditor.read(dialog, reveal=reveal).save(tmp_path / "a")
    assert Reading.load(tmp_path / "a").reveal == (reveal if isinstance(reveal, str) else tuple(reveal))


def test_a_reading_says_what_it_holds(reading: Reading, target: Any, dialog: Any) -> None:
    assert reading.decoys is not None and len(reading.decoys) == N_DECOYS
    assert reading.visible_text == render(dialog, target.tokenizer).visible_text == "user: Who are you?"
    assert reading.fingerprint == target.fingerprint() and reading.reveal == "user"
    assert "".join(reading.tokens).startswith("<|im_start|>user\nWho are you?") and "pirate" not in "".join(
        reading.tokens
    )
    assert repr(reading) == f"<Reading of {len(reading.tokens)} tokens at layers 2 of {target.name!r}, 8 decoys>"


def test_the_file_is_what_the_page_describes(file: Path, reading: Reading) -> None:
    with safe_open(file, "pt") as opened:
        metadata, names = opened.metadata(), set(opened.keys())
    assert metadata["format"] == "audit-lit activations 2" and json.loads(metadata["layers"]) == [2]
    assert metadata["convention"] == "output of block L, counted from 0"
    assert json.loads(metadata["dialog"]) == list(reading.dialog or ())
    assert names == {prefix + name for prefix in ("", "decoys.") for name in reading.activations.tensors()}
    page = (Path(__file__).parents[2] / "docs/activations.md").read_text(encoding="utf-8")
    for name in (*metadata, *reading.activations.tensors(), *PREFIXES.values(), metadata["convention"]):
        assert f"`{name}`" in page or f'"{name}"' in page or not name, name


def test_a_file_of_either_format_holds_activations(file: Path, reading: Reading, tmp_path: Path) -> None:
    assert torch.equal(Activations.load(file).resid, reading.activations.resid)
    reading.activations.save(tmp_path / "first")
    first = Reading.load(tmp_path / "first")
    assert torch.equal(first.activations.resid, reading.activations.resid)
    assert first.decoys is first.visible_text is first.dialog is first.reveal is None
    assert first.tokens[0] == f"token {int(reading.activations.token_ids[0, 0])}"


def test_the_visible_text_of_a_dialog_need_not_stand_in_the_file(file: Path) -> None:
    change(file, visible_text=None, dialog=json.dumps(THINKS))
    assert Reading.load(file).visible_text == "user:  Hi "


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"format": "audit-lit activations 3"}, "expected 'audit-lit activations 1' or .*upgrade audit-lit"),
        ({"convention": "hidden_states[L]"}, r"counts its layers as 'hidden_states\[L\]'; expected 'output of block L"),
        ({"convention": None}, "counts its layers as None"),
        ({"convention": "hidden_states index", "format": None}, "counts its layers as 'hidden_states index'"),
        ({"convention": "hidden_states index", "format": "audit-lit activations 1"}, "counts its layers as"),
        ({"dialogue": "[]"}, "metadata of the name 'dialogue'.*Did you mean 'dialog'"),
        ({"layers": "[2, 3]"}, "of 1 layers, named"),
        ({"layers": "2"}, "not iterable"),
        ({"layers": "[-1]"}, "the number of a block"),
        ({"layers": None}, "'layers'"),
        ({"source": None}, "'source'"),
        ({"dialog": "[]"}, "the dialog is empty"),
        ({"dialog": "{"}, "is not a complete file"),
        ({"tokens": '["a"]'}, "names 1 tokens, and holds"),
        ({"tokens": "[1]"}, "not a list of texts"),
        ({"reveal": "3"}, "neither a text nor a list of positions"),
        ({"reveal": "[]"}, "neither a text nor a list of positions"),
        ({"reveal": '"banana"'}, "reveal='banana' is unknown"),
        ({"reveal": '"last:1"'}, "reveals 'last:1', and holds 31 tokens"),
        ({"reveal": "[40, 41]"}, r"reveals \(40, 41\), and holds 31 tokens"),
    ],
)
def test_metadata_is_read_strictly(file: Path, metadata: dict[str, str | None], words: str) -> None:
    change(file, **metadata)
    with pytest.raises(ActivationError, match=rf"a\.safetensors.*{words}"):
        Reading.load(file)


def _cut(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda tensors: tensors.update({name: tensors[name][..., :-1].contiguous()})


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (lambda tensors: tensors.update(extra=torch.ones(1)), "tensor of the name 'extra'"),
        (lambda tensors: tensors.pop("decoys.mask"), "'decoys.mask'"),
        (_cut("mask"), "mask for|shape"),
        (_cut("resid"), "the decoys have width 32, and the dialog 31"),
        (lambda tensors: tensors.update(mask=tensors["mask"].int()), "truth values"),
        (lambda tensors: tensors.update(positions=tensors["positions"].float()), "and integers"),
        (lambda tensors: tensors.update(resid=tensors["resid"][0]), r"expected \[dialog, layer, slot, width\]"),
        (lambda tensors: tensors["decoys.token_ids"][3].add_(1), "the decoys were read at other tokens"),
        (lambda tensors: tensors["resid"].fill_(torch.nan), "contain NaN"),
        (lambda tensors: tensors["n_hidden"].fill_(900), "n_hidden of the activations is .900.*; expected fewer"),
        (lambda tensors: tensors["decoys.n_hidden"].fill_(900), "n_hidden of the decoys is .900"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_tensors_are_read_strictly(file: Path, tensors: Any, words: str) -> None:
    change(file, tensors)
    with pytest.raises(ActivationError, match=words):
        Reading.load(file)


def test_several_dialogs_in_a_file_are_refused(reading: Reading, tmp_path: Path) -> None:
    reading.activations.rows([0, 0]).save(tmp_path / "a")
    with pytest.raises(ActivationError, match="holds 2 dialogs; expected one in each file"):
        Reading.load(tmp_path / "a")


def test_other_files_are_refused(file: Path, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:200])
    for path in (file, tmp_path, tmp_path / "none"):
        with pytest.raises(ActivationError, match=r"is not a complete file of activations|there is no file"):
            Reading.load(path)


def test_a_file_that_cannot_be_written_is_an_error(reading: Reading, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        reading.save(tmp_path / "none" / "a")


def written_without_audit_lit(path: Path, target: Any, config: Any, n_edge: int) -> Reading:
    """The file that the example of docs/activations.md writes."""
    page = (Path(__file__).parents[2] / "docs/activations.md").read_text(encoding="utf-8")
    code = page.split("<!-- test:plain -->")[1].split("```python\n")[1].split("```")[0]
    assert "audit_lit" not in code
    (layer,) = config.read_layers
    values = {"model": target.base, "tokenizer": target.tokenizer, "layer": layer, "n_edge": n_edge}
    exec(compile(code, "docs/activations.md", "exec"), values | {"name": config.target, "path": str(path)})
    return Reading.load(path)


@pytest.mark.parametrize(("settings", "n_edge"), [({}, 99), ({"positions": "edges", "n_edge": 3}, 3)])
def test_a_page_without_audit_lit_writes_what_ask_reads(
    tmp_path: Path, target: Any, make_decoder: Any, settings: dict[str, Any], n_edge: int
) -> None:
    auditor = Auditor(target, make_decoder(**settings))
    reading = written_without_audit_lit(tmp_path / "a.safetensors", target, auditor.decoder.config, n_edge)
    dialog = list(reading.dialog or ())
    expected = auditor.read(dialog)
    torch.testing.assert_close(reading.activations.resid, expected.activations.resid, rtol=1e-4, atol=1e-5)
    assert torch.equal(reading.activations.positions, expected.activations.positions)
    assert torch.equal(reading.activations.n_hidden, expected.activations.n_hidden)
    answer = auditor.ask(reading, "Who?", samples=0, max_new_tokens=4)
    assert answer.missing == ("shuffled",) and "missing" in answer.verdict
    assert answer.text == auditor.ask(dialog, "Who?", samples=0, max_new_tokens=4).text


@pytest.mark.model
@pytest.mark.slow
def test_the_default_decoder_says_the_same_of_a_file_that_audit_lit_did_not_write(tmp_path: Path) -> None:
    target = load_target("smollm2-135m")
    auditor = Auditor(target, Decoder.from_pretrained("default", target=target))
    config = auditor.decoder.config
    reading = written_without_audit_lit(tmp_path / "a.safetensors", target, config, config.n_edge)
    said, expected = (
        auditor.ask(source, PROMPT_QUESTION, samples=0) for source in (reading, list(reading.dialog or ()))
    )
    assert (said.text, said.positions) == (expected.text, expected.positions)
