"""Each tool's own shapes become runs, by what their code writes; none of the tools is imported."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from audit_lit.errors import ActivationError
from audit_lit.exchange import Run, check_layers, from_nnsight, from_vllm_connector, from_vllm_lens, plan


@pytest.fixture
def planned(make_decoder: Any, dialog: Any) -> Any:
    return plan(dialog, make_decoder())


@pytest.fixture
def prompt(planned: Any) -> list[int]:
    token_ids: list[int] = planned.prompts[0]
    return token_ids


def assert_fits(run: Run, target: Any, planned: Any, layers: tuple[int, ...]) -> None:
    assert run.layers == layers
    check_layers(run, target, planned)


@pytest.mark.parametrize("kind", ["tensor", "array"])
def test_vllm_lens_sorts_its_rows_by_layer(
    target: Any, planned: Any, outputs: Any, prompt: list[int], kind: str
) -> None:
    blocks = outputs(prompt)
    stream = torch.cat([blocks[layer] for layer in (1, 3)])  # as _worker_ext.py stacks them, for [3, 1]
    run = from_vllm_lens({"residual_stream": stream if kind == "tensor" else stream.numpy()}, [3, 1])
    assert_fits(run, target, planned, (1, 3))


def test_outputs_of_vllm_lens_without_their_layers_are_refused() -> None:
    with pytest.raises(ActivationError, match=r"holds 'qk_layers'; expected 'residual_stream'"):
        from_vllm_lens({"qk_layers": [1]}, [1])
    with pytest.raises(ActivationError, match="for the layers"):
        from_vllm_lens({"residual_stream": torch.randn(2, 5, 8)}, [1])


def write_connector(path: Path, blocks: Any, ids: list[int], token_ids: list[int]) -> None:
    """Write what vLLM's models note: the residuals before block ``id``."""
    embedding = torch.zeros_like(blocks[0])
    rows = [[embedding, *blocks][layer_id][0] for layer_id in ids]
    save_file({"hidden_states": torch.stack(rows, dim=1), "token_ids": torch.tensor(token_ids)}, path)


def test_ids_of_the_connector_are_one_above_ours(
    target: Any, planned: Any, outputs: Any, prompt: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "states.safetensors"
    write_connector(path, outputs(prompt), [2, 4], prompt)
    run = from_vllm_connector(path, [2, 4])
    assert run.token_ids == tuple(prompt)
    assert_fits(run, target, planned, (1, 3))
    with pytest.raises(ActivationError, match="calls layer 2 is nearest to the output of block 1"):
        check_layers(from_vllm_connector(path, [2, 3], offset=0), target, planned)


def test_files_of_the_connector_are_read_strictly(outputs: Any, prompt: list[int], tmp_path: Path) -> None:
    path = tmp_path / "states.safetensors"
    write_connector(path, outputs(prompt), [0, 2], prompt)
    with pytest.raises(ActivationError, match="The embedding is no layer"):
        from_vllm_connector(path, [0, 2])
    with pytest.raises(ActivationError, match="in ascending order"):
        from_vllm_connector(path, [2, 0])
    with pytest.raises(ActivationError, match="for the layers"):
        from_vllm_connector(path, [1, 2, 3])
    save_file({"hidden_states": torch.randn(4, 8)}, path)
    with pytest.raises(ActivationError, match="is not a file of vLLM's hidden states"):
        from_vllm_connector(path, [1])
    with pytest.raises(ActivationError, match="is not a file of vLLM's hidden states"):
        from_vllm_connector(tmp_path, [1])
    save_file({"hidden_states": torch.randn(4, 8), "token_ids": torch.arange(4)}, path)
    with pytest.raises(ActivationError, match=r"hidden_states of shape \[4, 8\]"):
        from_vllm_connector(path, [1])


@pytest.mark.parametrize("shape", ["batch", "tuple", "flat", "proxy"])
def test_nnsight_saves_tensors_tuples_and_proxies(
    target: Any, planned: Any, outputs: Any, prompt: list[int], shape: str
) -> None:
    forms: dict[str, Any] = {
        "batch": lambda resid: resid,
        "tuple": lambda resid: (resid, None),
        "flat": lambda resid: resid[0],
        "proxy": lambda resid: SimpleNamespace(value=resid),
    }
    blocks = outputs(prompt)
    run = from_nnsight({layer: forms[shape](blocks[layer]) for layer in (3, 0)})
    assert_fits(run, target, planned, (3, 0))


def test_outputs_of_several_prompts_are_refused() -> None:
    with pytest.raises(ActivationError, match="one by one"):
        from_nnsight({1: torch.randn(2, 5, 8)})
    with pytest.raises(ActivationError, match="the same tokens at every layer"):
        from_nnsight({1: torch.randn(5, 8), 2: torch.randn(6, 8)})
    with pytest.raises(ActivationError, match="got no output"):
        from_nnsight({})
