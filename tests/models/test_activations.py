"""Activations as a value: vectors, rows, joining and the file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit import Activations
from audit_lit.errors import ActivationError

FIELDS = ("resid", "mask", "token_ids", "positions", "n_hidden")


def make(lengths: list[int], n_layers: int = 2, d_model: int = 3) -> Activations:
    """Random activations with that many positions per row."""
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return Activations(
        resid=torch.randn(len(lengths), n_layers, max(lengths), d_model) * mask[:, None, :, None],
        mask=mask,
        token_ids=torch.randint(3, 99, mask.shape) * mask,
        positions=torch.randint(3, 99, mask.shape) * mask,
        n_hidden=torch.arange(len(lengths)),
        layers=tuple(range(n_layers)),
        source="tiny",
    )


def assert_same(one: Activations, two: Activations, **tolerance: float) -> None:
    assert (one.layers, one.source) == (two.layers, two.source)
    for name in FIELDS:
        torch.testing.assert_close(getattr(one, name), getattr(two, name), **(tolerance or {"rtol": 0, "atol": 0}))


lengths_of = st.lists(st.integers(1, 4), min_size=1, max_size=4)


@settings(deadline=None, max_examples=25)
@given(lengths_of, st.integers(1, 3))
def test_vectors_go_row_by_row_layer_by_layer_slot_by_slot(lengths: list[int], n_layers: int) -> None:
    activations = make(lengths, n_layers)
    expected = [
        (activations.resid[row, layer, slot].tolist(), layer)
        for row, length in enumerate(lengths)
        for layer in range(n_layers)
        for slot in range(length)
    ]
    vectors, layer_index = activations.vectors()
    assert list(zip(vectors.tolist(), layer_index.tolist(), strict=True)) == expected


@settings(deadline=None, max_examples=25)
@given(st.lists(lengths_of, min_size=1, max_size=3), st.data())
def test_cat_keeps_every_row_and_rows_selects_them(groups: list[list[int]], data: st.DataObject) -> None:
    parts = [make(lengths) for lengths in groups]
    joined = Activations.cat(parts)
    rows = [(part, row) for part in parts for row in range(len(part))]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=6))
    got = joined.rows(chosen)
    assert len(joined) == len(rows)
    assert len(got) == len(chosen)
    for at, index in enumerate(chosen):
        part, row = rows[index]
        assert torch.equal(got.rows([at]).vectors()[0], part.rows([row]).vectors()[0])
        assert torch.equal(got.token_ids[at][got.mask[at]], part.token_ids[row][part.mask[row]])
        assert torch.equal(got.positions[at][got.mask[at]], part.positions[row][part.mask[row]])
        assert got.n_hidden[at] == part.n_hidden[row]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_saved_file_reads_back_the_same(tmp_path: Path, dtype: torch.dtype) -> None:
    activations = dataclasses.replace(make([3, 1]), resid=torch.randn(2, 2, 3, 3, dtype=dtype))
    activations.save(tmp_path / "a.safetensors")
    assert_same(Activations.load(tmp_path / "a.safetensors"), activations)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    make([3, 1]).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ActivationError, match=r"a\.safetensors is not a complete file of activations"):
        Activations.load(path)


@pytest.mark.parametrize("metadata", [None, {"layers": "[0, 1]"}, {"layers": "zero", "source": "tiny"}])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, metadata: dict[str, str] | None) -> None:
    from safetensors.torch import save_file

    save_file({name: getattr(make([2]), name) for name in FIELDS}, tmp_path / "a", metadata=metadata)
    with pytest.raises(ActivationError, match="expected one written by"):
        Activations.load(tmp_path / "a")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_values_that_no_model_computes_are_refused(bad: float) -> None:
    activations = make([2, 2])
    activations.resid[1, 0, 1, 2] = bad
    with pytest.raises(ActivationError, match=r"'tiny' contain NaN or infinity at layers \[0, 1\].*float16"):
        dataclasses.replace(activations)


def saved_with(path: Path, layers: Any = (0, 1), **tensors: torch.Tensor) -> Path:
    """Write a file of activations with other layers or tensors in it."""
    from safetensors.torch import save_file

    activations = make([3, 1])
    activations.save(path)
    kept = {name: getattr(activations, name) for name in FIELDS}
    save_file({**kept, **tensors}, path, metadata={"layers": json.dumps(layers), "source": "tiny"})
    return path


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"resid": torch.zeros(2, 2, 3)}, "shape"),
        ({"resid": torch.zeros(3, 2, 3, 3)}, "shape"),
        ({"resid": torch.zeros(2, 3, 3, 3)}, "of 3 layers"),
        ({"mask": torch.ones(2, 4, dtype=torch.bool)}, "shape"),
        ({"mask": torch.ones(2, 3)}, "types"),
        ({"positions": torch.ones(2, 2, dtype=torch.long)}, "shape"),
        ({"positions": torch.ones(2, 3)}, "types"),
        ({"positions": torch.full((2, 3), -1)}, "positions of the activations is below 0"),
        ({"token_ids": torch.full((2, 3), -5)}, "token_ids of the activations is below 0"),
        ({"token_ids": torch.ones(2, dtype=torch.long)}, "shape"),
        ({"n_hidden": torch.ones(3, dtype=torch.long)}, "shape"),
        ({"n_hidden": torch.full((2,), -1)}, "n_hidden of the activations is below 0"),
        ({"resid": torch.zeros(2, 2, 3, 3, dtype=torch.int8)}, "types"),
        ({"resid": torch.zeros(2, 2, 3, 3, dtype=torch.float64)}, "of float64; expected float32"),
        ({"resid": torch.zeros(2, 2, 3, 3).to(torch.float8_e4m3fn)}, "types"),
        ({"resid": torch.zeros(2, 2, 3, 3).to(torch.float8_e5m2)}, "types"),
        ({"resid": torch.zeros(2, 0, 3, 3), "layers": []}, "of 0 layers.*at least one"),
        ({"layers": [0]}, "of 2 layers"),
        ({"layers": [1, 1]}, "of 2 layers"),
        ({"layers": [0, -1]}, "of 2 layers"),
        ({"layers": [0, 1.5]}, "of 2 layers"),
        ({"layers": "01"}, "of 2 layers"),
        ({"layers": 3}, "not iterable"),
        ({"layers": [0, float("nan")]}, "not finite"),
        ({"other": torch.zeros(1)}, "unexpected keyword"),
    ],
    ids=str,
)
def test_parts_that_do_not_fit_each_other_are_refused(tmp_path: Path, changes: Any, words: str) -> None:
    path = saved_with(tmp_path / "a.safetensors", **changes)
    with pytest.raises(ActivationError, match=rf"(?s)a\.safetensors is not a complete file of activations .*{words}"):
        Activations.load(path)


def test_a_row_without_positions_is_refused() -> None:
    with pytest.raises(ActivationError, match="has no position"):
        dataclasses.replace(make([2, 2]), mask=torch.tensor([[True, True], [False, False]]))
