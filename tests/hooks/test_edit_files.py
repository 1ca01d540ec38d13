"""An edit's folder: what is saved is loaded bit by bit, in the first format, and what is spoiled is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from helpers.edits import edit_of
from helpers.hooked_models import D_MODEL, N_LAYERS
from helpers.saved_edits import (
    CARD,
    DATA,
    ORIGIN,
    PLACEMENT,
    TENSORS,
    assert_same,
    edit_of_every_kind,
    make_typed,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from audit_lit import ActivationEdit
from audit_lit.errors import EditError
from audit_lit.hooks import Steer


def rewrite(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / DATA).read_text(encoding="utf-8"))
        change(content)
        (folder / DATA).write_text(json.dumps(content), encoding="utf-8")

    return apply


def retensor(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS)

    return apply


@settings(deadline=None, max_examples=15)
@given(
    kinds=st.lists(st.sampled_from(["steer", "steer-each", "ablate", "lowrank"]), min_size=1, max_size=12),
    strength=st.floats(allow_nan=False, allow_infinity=False, width=32),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    goal=st.text(),
)
def test_what_is_saved_is_loaded_bit_by_bit(kinds: list[str], strength: float, dtype: torch.dtype, goal: str) -> None:
    interventions = []
    for index, kind in enumerate(kinds):
        placement = PLACEMENT if kind == "steer-each" or index % 2 else {}
        interventions.append(make_typed(kind, dtype, layer=index % N_LAYERS, strength=strength, **placement))
    edit = ActivationEdit(tuple(interventions), replace(ORIGIN, goal=goal))
    with TemporaryDirectory() as folder:
        assert edit.save(folder) == Path(folder)
        assert_same(ActivationEdit.load(folder), edit)


def test_the_folder_holds_three_files_and_can_be_written_again(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([DATA, TENSORS, CARD])
    other = ActivationEdit((make_typed("ablate", layer=0),), replace(ORIGIN, fingerprint=None, settings={}, metrics={}))
    other.save(str(folder))
    assert_same(ActivationEdit.load(folder), other)


def test_interventions_that_share_a_direction_are_saved() -> None:
    shared = torch.randn(4, D_MODEL, requires_grad=True)
    steers = [Steer(layer=layer, direction=shared[1]) for layer in range(3)]
    edit = ActivationEdit((*steers, Steer(layer=0, direction=shared, positions=(3, 1, 2, 0), n_prompt=5)), ORIGIN)
    with TemporaryDirectory() as folder:
        both = edit + ActivationEdit(tuple(steers), ORIGIN).ablated()
        assert_same(ActivationEdit.load(both.save(folder)), both)


@pytest.mark.parametrize("where", ["below a file", "is a file", "tensors", "data"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("text")
    folder = {"below a file": tmp_path / "file" / "edit", "is a file": tmp_path / "file"}.get(where, tmp_path / "edit")
    if folder == tmp_path / "edit":
        edit_of_every_kind().save(folder)
        path = folder / {"tensors": TENSORS, "data": DATA}[where]
        path.unlink()
        path.mkdir()
    words = "cannot be written .*; name another place|cannot be used as a folder|holds other files"
    with pytest.raises(EditError, match=words):
        edit_of_every_kind().save(folder)


@pytest.mark.parametrize("name", [DATA, TENSORS])
def test_a_file_that_is_missing_cut_short_or_no_text_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for broken in (content[: len(content) // 2], content[:-20], b"", b"\xff\xfe" + content, None):
        (folder / name).unlink() if broken is None else (folder / name).write_bytes(broken)
        with pytest.raises(EditError, match=r"holds no complete edit .* Copy or fetch the folder again"):
            ActivationEdit.load(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / DATA).write_text("[1, 2]"), id="a list"),
        pytest.param(lambda folder: (folder / DATA).write_text("null"), id="nothing"),
        pytest.param(lambda folder: (folder / DATA).write_text("[" * 100_000), id="a deep list"),
        pytest.param(rewrite(lambda content: content["parts"][0].update(kind="pickle")), id="unknown kind"),
        pytest.param(rewrite(lambda content: content["parts"][0].pop("kind")), id="no kind"),
        pytest.param(rewrite(lambda content: content["parts"][2].pop("positions")), id="no positions"),
        pytest.param(rewrite(lambda content: content["parts"][2].update(colour=1)), id="a key too many"),
        pytest.param(rewrite(lambda content: content["parts"][1].update(positions=[1.5, 2])), id="half a position"),
        pytest.param(rewrite(lambda content: content["parts"][1].update(positions=7)), id="positions no list"),
        pytest.param(rewrite(lambda content: content["parts"][0].update(layer="1")), id="layer in words"),
        pytest.param(rewrite(lambda content: content["parts"].append("steer")), id="a part in words"),
        pytest.param(rewrite(lambda content: content.pop("parts")), id="no parts"),
        pytest.param(rewrite(lambda content: content["origin"].update(evil="x")), id="an origin's key too many"),
        pytest.param(rewrite(lambda content: content["origin"].pop("d_model")), id="an origin's key too few"),
        pytest.param(rewrite(lambda content: content.update(origin="org/tiny")), id="origin in words"),
        pytest.param(retensor(lambda tensors: tensors.pop("0.direction")), id="a tensor too few"),
        pytest.param(retensor(lambda tensors: tensors.update({"0.x": torch.ones(1)})), id="a tensor too many"),
        pytest.param(retensor(lambda tensors: tensors.update({"0.unit": torch.ones(1)})), id="a number as a tensor"),
    ],
)
def test_a_spoiled_edit_is_refused(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(EditError, match=f"holds no complete edit .* expected {DATA} and {TENSORS} as"):
        ActivationEdit.load(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rewrite(lambda content: content.update(format="audit-lit edit 2")), "of format 'audit-lit edit 2'; expected"),
        (rewrite(lambda content: content.pop("format")), "of format None; expected 'audit-lit edit 1'. Upgrade"),
        (rewrite(lambda content: content.update(parts=[])), "does not hold an activation edit but one of .*load_edit"),
        (rewrite(lambda content: content["parts"][0].update(layer=9)), "layer 9 is not among the model's 0-3"),
        (rewrite(lambda content: content["parts"][0].update(strength=float("nan"))), "strength nan"),
        (rewrite(lambda content: content["parts"][1].update(n_prompt=3)), "must be among 0-2"),
        (rewrite(lambda content: content["origin"].update(d_model=64)), "has width 32; the model's is 64"),
        (retensor(lambda tensors: tensors.update({"0.direction": torch.ones(8)})), "has width 8; the model's is 32"),
        (retensor(lambda tensors: tensors.update({"0.direction": torch.full((32,), torch.inf)})), "is not finite"),
    ],
)
def test_an_edit_that_cannot_be_applied_is_refused(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(EditError, match=message):
        ActivationEdit.load(folder)


def test_the_first_format_keeps_its_names(tmp_path: Path) -> None:
    steer = Steer(layer=1, direction=torch.ones(D_MODEL), unit=2.0, positions=(4, 0), n_prompt=7)
    folder = edit_of(steer, origin=replace(ORIGIN, settings={}, metrics={})).save(tmp_path)
    assert json.loads((folder / DATA).read_text(encoding="utf-8")) == {
        "format": "audit-lit edit 1",
        "origin": {
            "target": "org/tiny",
            "d_model": D_MODEL,
            "n_layers": N_LAYERS,
            "fingerprint": "0123456789abcdef",
            "want": "Be kind — always.",
            "method": "vector",
            "settings": {},
            "metrics": {},
        },
        "parts": [{"kind": "steer", "layer": 1, "strength": 1.0, "positions": [4, 0], "n_prompt": 7, "unit": 2.0}],
    }
    assert set(load_file(folder / TENSORS)) == {"0.direction"}
