"""Edits as steering vectors: other tools add what the edit's hooks add, and files read back as the same edit."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from helpers.edits import N_PROMPT, POSITIONS, edit_of, make_intervention
from helpers.hooked_models import D_MODEL, N_LAYERS, residuals
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from audit_lit import ActivationEdit, Reading
from audit_lit.errors import ActivationError, EditError
from audit_lit.exchange import export_edit, gguf_vectors, import_edit
from audit_lit.exchange.edits import FORMATS
from audit_lit.hooks import Origin, Steer, capture

TOKENS = torch.arange(3, 3 + N_PROMPT)[None]


@pytest.fixture
def several(origin: Any) -> ActivationEdit:
    """Directions after two blocks, two of them after the same, of other units and strengths."""
    return edit_of(
        make_intervention("steer", 1, strength=-0.7),
        make_intervention("steer", 3, strength=0.2),
        make_intervention("steer", 1, strength=0.3),
        origin=origin,
    )


def edited(target: Any, edit: ActivationEdit) -> Tensor:
    """The residuals of every layer under an edit's hooks."""
    with torch.no_grad(), edit.on(target.model) as model:
        cache = capture(model, TOKENS, torch.ones_like(TOKENS), range(N_LAYERS), positions=torch.arange(N_PROMPT)[None])
    return torch.stack([cache[layer] for layer in range(N_LAYERS)])


def added_to_blocks(target: Any, vectors: dict[int, Tensor]) -> Tensor:
    """The residuals of plain transformers where a vector is added to the output of some blocks."""
    blocks = target.base.model.layers
    handles = [
        blocks[layer].register_forward_hook(lambda _module, _args, out, vector=vector: out + vector)
        for layer, vector in vectors.items()
    ]
    try:
        return torch.stack(residuals(target.base, blocks, TOKENS))
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("form", FORMATS)
def test_an_edit_reads_back_as_the_same_change(target: Any, several: ActivationEdit, tmp_path: Path, form: str) -> None:
    export_edit(several, form, tmp_path / "vector")
    imported = import_edit(tmp_path / "vector", target)
    torch.testing.assert_close(edited(target, imported), edited(target, several), rtol=1e-5, atol=1e-5)
    assert imported.layers == (1, 3) and imported.origin.method == f"imported from {form}"
    imported.save(tmp_path / "edit")
    assert ActivationEdit.load(tmp_path / "edit").origin == imported.origin


def vectors_of(path: Path, form: str) -> dict[int, Tensor]:
    """Read a file as its tool would: their own lines of code, without our reader."""
    if form == "gguf":  # repeng's import_gguf
        tensors = gguf.GGUFReader(path).tensors
        return {int(tensor.name.split(".")[1]): torch.from_numpy(tensor.data.copy()) for tensor in tensors}
    if form == "steering-vectors":
        return {int(layer): vector for layer, vector in load_file(path).items()}
    with safe_open(path, "pt") as file:
        arguments, activations = json.loads(file.metadata()["steering_vector"]), file.get_tensor("activations")
    assert set(arguments) == {"layer_indices", "scale", "norm_match", "position_indices"}
    assert not arguments["norm_match"] and arguments["position_indices"] is None
    return {layer: arguments["scale"] * activations[row] for row, layer in enumerate(arguments["layer_indices"])}


@pytest.mark.parametrize("form", FORMATS)
def test_what_a_tool_adds_to_the_blocks_is_what_the_hooks_add(
    target: Any, several: ActivationEdit, tmp_path: Path, form: str
) -> None:
    export_edit(several, form, tmp_path / "vector")
    by_tool = added_to_blocks(target, vectors_of(tmp_path / "vector", form))
    torch.testing.assert_close(by_tool, edited(target, several), rtol=1e-4, atol=1e-4)


def test_a_control_vector_is_what_repeng_and_llama_cpp_expect(several: ActivationEdit, tmp_path: Path) -> None:
    export_edit(several, "gguf", tmp_path / "v.gguf")
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    text = {name: bytes(reader.get_field(name).parts[-1]).decode() for name in ("general.architecture", HINT)}
    assert text == {"general.architecture": "controlvector", HINT: "tiny"}
    assert reader.get_field("controlvector.layer_count").parts[-1].tolist() == [2]
    assert [(tensor.name, tensor.tensor_type.name, tensor.shape.tolist()) for tensor in reader.tensors] == [
        ("direction.1", "F32", [D_MODEL]),
        ("direction.3", "F32", [D_MODEL]),
    ]


HINT = "controlvector.model_hint"


@pytest.mark.parametrize("kind", ["steer-at", "steer-each"])
def test_positions_go_to_vllm_lens_alone(target: Any, origin: Any, tmp_path: Path, kind: str) -> None:
    edit = edit_of(make_intervention(kind, 1), make_intervention(kind, 2, strength=0.5), origin=origin)
    export_edit(edit, "vllm-lens", tmp_path / "vector")
    imported = import_edit(tmp_path / "vector", target)
    torch.testing.assert_close(edited(target, imported), edited(target, edit), rtol=1e-5, atol=1e-5)
    with safe_open(tmp_path / "vector", "pt") as file:
        assert file.get_tensor("activations").shape == (2, len(POSITIONS), D_MODEL)
        assert json.loads(file.metadata()["steering_vector"])["position_indices"] == list(POSITIONS)
    for form in ("gguf", "steering-vectors"):
        with pytest.raises(EditError, match=f"the format {form} adds to every token"):
            export_edit(edit, form, tmp_path / "other")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(("kind", "words"), [("ablate", "Ablate"), ("lowrank", "LowRank")])
def test_changes_that_depend_on_the_residuals_are_refused(origin: Any, tmp_path: Path, kind: str, words: str) -> None:
    edit = edit_of(make_intervention("steer"), make_intervention(kind), origin=origin)
    with pytest.raises(EditError, match=f"holds {words} changes.*method 'vector'"):
        export_edit(edit, "gguf", tmp_path / "vector")


def test_what_a_format_cannot_say_is_refused(several: ActivationEdit, origin: Any, tmp_path: Path) -> None:
    mixed = edit_of(make_intervention("steer"), make_intervention("steer-at"), origin=origin)
    with pytest.raises(EditError, match="at other positions than others"):
        export_edit(mixed, "vllm-lens", tmp_path / "vector")
    with pytest.raises(EditError, match=r"llama\.cpp refuses a control vector with direction\.0"):
        export_edit(edit_of(make_intervention("steer", 0), origin=origin), "gguf", tmp_path / "vector")
    with pytest.raises(EditError, match="got the format 'pickle'; expected one of vllm-lens, steering-vectors, gguf"):
        export_edit(several, "pickle", tmp_path / "vector")
    with pytest.raises(EditError, match="could not be written to"):
        export_edit(several, "vllm-lens", tmp_path / "none" / "vector")


@pytest.mark.parametrize("form", FORMATS)
def test_a_vector_of_another_model_is_refused(target: Any, several: ActivationEdit, tmp_path: Path, form: str) -> None:
    foreign = replace(several, origin=replace(several.origin, fingerprint="0" * 16))
    export_edit(foreign, form, tmp_path / "vector")
    with pytest.raises(EditError, match=r"was made for 'tiny' and .* is another model"):
        import_edit(tmp_path / "vector", target)
    unknown = replace(several, origin=Origin("tiny", D_MODEL, N_LAYERS))
    export_edit(unknown, form, tmp_path / "vector")
    assert import_edit(tmp_path / "vector", target).origin.fingerprint == target.fingerprint()
    deep = edit_of(Steer(layer=7, direction=torch.randn(D_MODEL)), origin=Origin("deep", D_MODEL, 9))
    export_edit(deep, form, tmp_path / "vector")
    with pytest.raises(EditError, match="layer 7 is not among the model's 0-3"):
        import_edit(tmp_path / "vector", target)
    wide = edit_of(Steer(layer=1, direction=torch.randn(2 * D_MODEL)), origin=Origin("wide", 2 * D_MODEL, N_LAYERS))
    export_edit(wide, form, tmp_path / "vector")
    with pytest.raises(EditError, match="has width 64; the model's is 32"):
        import_edit(tmp_path / "vector", target)


def vllm_lens(
    path: Path, shape: tuple[int, ...] = (1, D_MODEL), fill: Any = 1.0, dtype: Any = torch.float32, **arguments: Any
) -> None:
    """Write a file of vllm-lens by hand."""
    steering = json.dumps({"layer_indices": [1], **arguments})
    save_file(
        {"activations": torch.full(shape, fill, dtype=dtype)},
        path,
        {"format": "vllm-lens steering vector", "steering_vector": steering},
    )


def test_a_scale_multiplies(target: Any, tmp_path: Path) -> None:
    vllm_lens(tmp_path / "vector", scale=-2.5)
    (steer,) = import_edit(tmp_path / "vector", target).interventions
    assert torch.equal(steer.change(torch.zeros(D_MODEL)), torch.full((D_MODEL,), -2.5))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"norm_match": True}, "norm_match is true"),
        ({"layer_indices": [1, 2]}, "for the layers"),
        ({"shape": (1, 2, D_MODEL)}, "without audit_lit.n_prompt"),
        ({"shape": (1, 2, D_MODEL), "position_indices": [3]}, "1 positions and 2 vectors"),
        ({"position_indices": [3]}, "position_indices stand beside"),
        ({"layers": [1]}, "unknown key 'layers'"),
        ({"scale": "2"}, "scale"),
        ({"scale": 0.0}, "'layer 1' has the length 0"),
        ({"fill": 0.0}, "'layer 1' has the length 0"),
        ({"fill": 1e38}, "'layer 1' has the length inf"),
        ({"fill": 1e300, "dtype": torch.float64}, "'layer 1' has the length inf"),
        ({"fill": 1j, "dtype": torch.complex64}, "is of type torch.complex64; expected real"),
        ({"dtype": torch.int32}, "is of type torch.int32; expected real"),
    ],
)
def test_what_an_edit_cannot_do_is_refused(target: Any, tmp_path: Path, content: Any, words: str) -> None:
    vllm_lens(tmp_path / "vector", **content)
    with pytest.raises(EditError, match=words):
        import_edit(tmp_path / "vector", target)


def test_other_files_are_refused(target: Any, several: ActivationEdit, tmp_path: Path) -> None:
    path = tmp_path / "vector"
    for content in (b"", b"GGUF", b"no vector", b"GGUF" + bytes(64)):
        path.write_bytes(content)
        with pytest.raises(EditError, match="is not a complete steering vector"):
            import_edit(path, target)
    for metadata, tensors, words in (
        ({"format": "pt"}, {"1": torch.ones(D_MODEL)}, "its format is 'pt'"),
        ({"format": STEERING, "layer_type": "mlp"}, {"1": torch.ones(D_MODEL)}, "its layer_type is 'mlp'"),
        ({"format": STEERING}, {"1": torch.ones(D_MODEL)}, "layer_type"),
        ({"format": STEERING, "layer_type": "decoder_block"}, {"one": torch.ones(D_MODEL)}, "the tensor 'one'"),
        ({"format": STEERING, "layer_type": "decoder_block"}, {"1": torch.ones(9), "01": torch.zeros(9)}, "'01'"),
        ({"format": STEERING, "layer_type": "decoder_block"}, {"1": torch.ones(2, D_MODEL)}, "no single vector"),
        ({"format": STEERING, "layer_type": "decoder_block"}, {"1": torch.zeros(D_MODEL)}, "'1' has the length 0"),
        ({"format": STEERING, "layer_type": "decoder_block"}, {"1": 1j * torch.ones(D_MODEL)}, "expected real"),
    ):
        save_file(tensors, path, metadata)
        with pytest.raises(EditError, match=words):
            import_edit(path, target)
    with pytest.raises(EditError, match="could not be read"):
        import_edit(tmp_path, target)
    export_edit(several, "vllm-lens", path)
    with pytest.raises(ActivationError, match="is of format 'vllm-lens steering vector'"):
        Reading.load(path)


STEERING = "steering-vectors steering vector"


@pytest.mark.parametrize(
    ("architecture", "name", "dtype", "words"),
    [
        ("llama", "direction.1", "float32", "its architecture is 'llama'"),
        ("controlvector", "weight", "float32", "holds the tensor 'weight'"),
        ("controlvector", "direction.x", "float32", "holds the tensor 'direction.x'"),
        ("controlvector", "direction.01", "float32", "holds the tensor 'direction.01'; expected direction.L alone"),
        ("controlvector", "direction.١", "float32", "holds the tensor 'direction.١'"),
        ("controlvector", "direction.1", "int32", "direction.1 is I32"),
    ],
)
def test_gguf_files_of_other_things_are_refused(
    target: Any, tmp_path: Path, architecture: str, name: str, dtype: str, words: str
) -> None:
    writer = gguf.GGUFWriter(tmp_path / "v.gguf", architecture)
    writer.add_tensor(name, torch.ones(D_MODEL).numpy().astype(dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(EditError, match=words):
        import_edit(tmp_path / "v.gguf", target)


@pytest.mark.parametrize("dtype", [0, 4, 7, 8, 9, 12])
@pytest.mark.parametrize("length", [1000, 2**33, 2**63])
def test_gguf_lengths_beyond_the_end_are_refused(target: Any, tmp_path: Path, dtype: int, length: int) -> None:
    key = b"a.b"
    array = struct.pack("<IIQQQ", 0x46554747, 3, 0, 1, len(key)) + key + struct.pack("<IIQ", 9, dtype, length)
    (tmp_path / "v.gguf").write_bytes(array + bytes(256))
    with pytest.raises(EditError, match="a length in it is beyond its end"):
        import_edit(tmp_path / "v.gguf", target)


def test_a_gguf_header_has_a_bound(target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gguf_vectors, "MOST_VALUES", 5)
    export_edit(edit_of(make_intervention("steer"), origin=Origin("tiny", D_MODEL, N_LAYERS)), "gguf", tmp_path / "v")
    with pytest.raises(EditError, match="or beyond 5 values"):
        import_edit(tmp_path / "v", target)
