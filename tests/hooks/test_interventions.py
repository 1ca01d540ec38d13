"""One intervention on plain tensors: its formula, where it writes, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.edits import change_by_hand
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, Intervention, LowRank, Steer, resid_post

D, RANK, LENGTH = 6, 2, 5
KINDS = ["steer", "steer-each", "ablate", "lowrank"]
DTYPES = [torch.float32, torch.bfloat16]
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
on_every_kind = pytest.mark.parametrize("kind", KINDS)


def make(kind: str, positions: tuple[int, ...] | None = None, **values: Any) -> Intervention:
    """A random intervention; ``steer-each`` has positions, all the prompt's if none are named."""
    if kind == "steer-each" and positions is None:
        positions = tuple(range(LENGTH))
    values = {"layer": 1, "positions": positions, "n_prompt": None if positions is None else LENGTH} | values
    if kind == "ablate":
        return Ablate(direction=torch.randn(D), **values)
    if kind == "lowrank":
        basis = torch.linalg.qr(torch.randn(D, RANK))[0].T
        return LowRank(basis=basis, weight=torch.randn(RANK, D), bias=torch.randn(RANK), **values)
    shape = (len(positions or ()), D) if kind == "steer-each" else (D,)
    return Steer(direction=torch.randn(shape), unit=3.0, **values)


def by_hand(change: Any, resid: Tensor) -> Tensor:
    """What the intervention must make of residuals, token by token."""
    out = resid.clone()
    for row in range(resid.shape[0]):
        for index, position in enumerate(range(resid.shape[1]) if change.positions is None else change.positions):
            h = resid[row, position].float()
            out[row, position] = (h + change.strength * change_by_hand(change, h, index)).to(resid.dtype)
    return out


@on_every_kind
@settings(deadline=None, max_examples=25)
@given(data=st.data(), dtype=st.sampled_from(DTYPES), strength=st.sampled_from([1.0, -1.0, 0.25, 3.0]))
def test_equals_the_formula_at_its_positions_and_nothing_else_changes(
    kind: str, data: st.DataObject, dtype: torch.dtype, strength: float
) -> None:
    torch.manual_seed(data.draw(st.integers(0, 99)))
    chosen = st.lists(st.integers(0, LENGTH - 1), min_size=1, unique=True).map(tuple)
    positions = data.draw(chosen if kind == "steer-each" else st.none() | chosen)
    intervention = make(kind, positions, strength=strength)
    resid = torch.randn(data.draw(st.integers(1, 3)), LENGTH + data.draw(st.integers(0, 2)), D).to(dtype)
    before = resid.clone()
    got = intervention.hook()[1](resid, hook=None)
    assert torch.equal(resid, before), "the incoming tensor was written to"
    assert got.dtype == dtype
    assert got.untyped_storage().data_ptr() != resid.untyped_storage().data_ptr()
    others = [pos for pos in range(resid.shape[1]) if positions is not None and pos not in positions]
    assert torch.equal(got[:, others], resid[:, others])
    tolerance = {"rtol": 1e-5, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-2, "atol": 1e-2}
    torch.testing.assert_close(got, by_hand(intervention, resid), **tolerance)


def test_the_numbers_of_a_small_example() -> None:
    resid = torch.tensor([[[1.0, 2.0, 0.0], [10.0, 0.0, 5.0]]])

    def edited(kind: type[Intervention], **values: Any) -> list[list[float]]:
        return kind(layer=0, positions=(1,), n_prompt=2, **values).hook()[1](resid)[0].tolist()

    steered = edited(Steer, direction=torch.tensor([0.0, 1.0, -2.0]), unit=10.0, strength=0.5)
    assert steered == [[1, 2, 0], [10, 5, -5]]
    ablated = edited(Ablate, direction=torch.tensor([3.0, 4.0, 0.0]))  # the component is (10, 0) . (.6, .8) = 6
    torch.testing.assert_close(torch.tensor(ablated), torch.tensor([[1, 2, 0], [6.4, -4.8, 5]]))
    moved = {"basis": torch.tensor([[0.0, 0.0, 1.0]]), "weight": torch.tensor([[2.0, 0.0, 0.0]])}
    assert edited(LowRank, bias=torch.tensor([1.0]), **moved) == [[1, 2, 0], [10, 0, 21]]
    assert edited(LowRank, bias=torch.tensor([1.0]), strength=0.5, **moved) == [[1, 2, 0], [10, 0, 13]]


def test_the_direction_is_gone_and_its_length_does_not_matter() -> None:
    intervention, resid = make("ablate"), torch.randn(2, LENGTH, D)
    out = intervention.hook()[1](resid)
    torch.testing.assert_close(out @ intervention.direction, torch.zeros(2, LENGTH), rtol=0, atol=1e-5)
    longer = Ablate(layer=1, direction=intervention.direction * 50)
    torch.testing.assert_close(longer.hook()[1](resid), out)


def test_a_low_rank_change_stays_within_its_subspace() -> None:
    intervention, resid = make("lowrank"), torch.randn(2, LENGTH, D)
    change = intervention.hook()[1](resid) - resid
    torch.testing.assert_close(change @ intervention.basis.T @ intervention.basis, change)
    assert torch.linalg.matrix_rank(change.view(-1, D)) == RANK


@on_every_kind
def test_strength_zero_returns_what_came_in(kind: str) -> None:
    resid = torch.randn(2, LENGTH, D)
    assert make(kind, strength=0.0).hook()[1](resid) is resid


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@on_every_kind
def test_dtype_and_device_are_the_residuals(kind: str, dtype: torch.dtype, device: str) -> None:
    resid = torch.randn(1, LENGTH, D).to(device, dtype)
    got = make(kind, (0, 3)).hook()[1](resid)
    assert (got.dtype, got.device) == (resid.dtype, resid.device)
    assert not torch.equal(got, resid)


def test_nothing_is_rounded_more_than_the_residuals_are() -> None:
    step = 2.0**-40  # lost in float32
    resid = torch.ones(1, 2, D, dtype=torch.float64)
    assert Steer(layer=0, direction=torch.full((D,), step)).hook()[1](resid)[0, 0, 0] == 1 + step
    half = torch.full((1, 2, D), 256.0, dtype=torch.bfloat16)  # whose next number is 258
    assert LowRank(layer=0, basis=torch.eye(1, D), weight=torch.eye(1, D), bias=torch.tensor([1.5])).hook()[1](half)[
        0, 0
    ].tolist() == [258, *[256] * (D - 1)]


@on_every_kind
def test_the_hook_is_at_the_blocks_output_and_keeps_no_state(kind: str) -> None:
    intervention, resid = make(kind), torch.randn(1, LENGTH, D)
    name, fn = intervention.hook()
    assert name == resid_post(1) == "blocks.1.hook_resid_post"
    first, kept = fn(resid), {name: tensor.clone() for name, tensor in intervention.tensors().items()}
    fn(torch.randn(3, LENGTH + 2, D))
    assert torch.equal(fn(resid), first)
    for name, tensor in intervention.tensors().items():
        assert torch.equal(tensor, kept[name])


@on_every_kind
def test_a_token_that_comes_alone_is_left_alone_by_positions_only(kind: str) -> None:
    step = torch.randn(2, 1, D)
    assert make(kind, (0,)).hook()[1](step) is step
    if kind != "steer-each":
        intervention = make(kind)
        torch.testing.assert_close(intervention.hook()[1](step), by_hand(intervention, step))


@on_every_kind
def test_a_longer_sequence_is_changed_at_the_same_positions(kind: str) -> None:
    fn, resid = make(kind, (1, 4)).hook()[1], torch.randn(2, LENGTH + 3, D)
    got = fn(resid)
    torch.testing.assert_close(got[:, :LENGTH], fn(resid[:, :LENGTH]))
    assert torch.equal(got[:, LENGTH:], resid[:, LENGTH:])


@pytest.mark.parametrize("n_tokens", [2, LENGTH - 1])
def test_a_prompt_shorter_than_the_edits_is_refused(n_tokens: int) -> None:
    with pytest.raises(
        EditError, match=f"prompt of 5 tokens, but this one has {n_tokens}; make an edit for this prompt"
    ):
        make("steer", (0,)).hook()[1](torch.randn(1, n_tokens, D))


@pytest.mark.parametrize("width", [D - 1, D + 1, 1])
@pytest.mark.parametrize("strength", [1.0, 0.0])
@on_every_kind
def test_residuals_of_another_width_are_refused(kind: str, strength: float, width: int) -> None:
    with pytest.raises(EditError, match=f"width 6 met residuals of width {width}; use it on the model"):
        make(kind, strength=strength).hook()[1](torch.randn(1, LENGTH, width))


@pytest.mark.parametrize(
    ("positions", "n_prompt", "message"),
    [
        ((0,), None, "of a prompt of None tokens; expected at least one"),
        ((0,), 1, "of a prompt of 1 tokens; expected at least one position, of a prompt of two tokens or more"),
        ((), 4, r"got positions \(\) of a prompt of 4 tokens"),
        ((4,), 4, r"positions \(4,\) must be among 0-3, the prompt's tokens"),
        ((0, -1), 4, r"positions \(0, -1\) must be among 0-3"),
        ((1, 2, 1), 4, r"positions \(1, 2, 1\) name a token twice"),
    ],
)
def test_positions_that_cannot_be_are_refused(positions: tuple[int, ...], n_prompt: int | None, message: str) -> None:
    with pytest.raises(EditError, match=message):
        Ablate(layer=0, direction=torch.ones(D), positions=positions, n_prompt=n_prompt)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("field", ["strength", "unit", "direction", "basis", "weight", "bias"])
def test_numbers_that_are_not_finite_are_refused(field: str, bad: float) -> None:
    holed = torch.ones(RANK, D)
    holed[-1, -1] = bad
    low = {"basis": torch.eye(RANK, D), "weight": torch.eye(RANK, D), "bias": torch.ones(RANK)}
    with pytest.raises(EditError, match="is not finite; expected finite numbers"):
        if field in low:
            LowRank(layer=0, **low | {field: holed[:, -1] if field == "bias" else holed})
        else:
            values = {"direction": torch.ones(D)} | {field: holed[-1] if field == "direction" else bad}
            Steer(layer=0, **values)


def test_strength_is_checked_for_every_kind() -> None:
    for kind in KINDS:
        with pytest.raises(EditError, match="strength nan"):
            make(kind, strength=float("nan"))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("shape", [(1, D), (3, D), (2, 2, D), ()])
def test_directions_that_do_not_match_the_positions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(EditError, match=r"got directions of shape .* for 2 positions; expected \[d_model\], or"):
        Steer(layer=0, direction=torch.ones(shape), positions=(0, 1), n_prompt=4)


@pytest.mark.usefixtures("unchecked")
def test_a_direction_per_position_needs_positions() -> None:
    with pytest.raises(EditError, match="for 0 positions"):
        Steer(layer=0, direction=torch.ones(2, D))
    with pytest.raises(EditError, match=r"got a direction of shape \(2, 6\); expected one"):
        Ablate(layer=0, direction=torch.ones(2, D), positions=(0, 1), n_prompt=4)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("basis", "weight", "bias"),
    [((2, D), (1, D), (2,)), ((2, D), (2, D), (1,)), ((2, D), (2, D), ()), ((D,), (D,), ()), ((2, D), (2, D), (3,))],
)
def test_a_low_rank_map_whose_tensors_do_not_match_is_refused(
    basis: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...]
) -> None:
    with pytest.raises(EditError, match=r"expected \[rank, d_model\] twice, and \[rank\]"):
        LowRank(layer=0, basis=torch.ones(basis), weight=torch.ones(weight), bias=torch.ones(bias))


@on_every_kind
@pytest.mark.parametrize("positions", [None, (3, 0)])
def test_gradients_equal_finite_differences(kind: str, positions: tuple[int, ...] | None) -> None:
    intervention = make(kind, positions, strength=0.7)
    names = list(intervention.tensors())
    tensors = [tensor.double().requires_grad_() for tensor in intervention.tensors().values()]
    resid = torch.randn(2, LENGTH + 1, D, dtype=torch.float64, requires_grad=True)

    def edited(resid: Tensor, *tensors: Tensor) -> Tensor:
        values = {**vars(intervention), **dict(zip(names, tensors, strict=True))}
        return type(intervention)(**values).hook()[1](resid)

    assert torch.autograd.gradcheck(edited, (resid, *tensors))


@on_every_kind
def test_moving_is_for_the_tensors_alone(kind: str) -> None:
    intervention = make(kind, (1, 2), strength=0.5)
    moved = intervention.moved(lambda tensor: tensor.double())
    assert type(moved) is type(intervention)
    assert (moved.layer, moved.strength, moved.positions, moved.n_prompt) == (1, 0.5, (1, 2), LENGTH)
    assert [tensor.dtype for tensor in moved.tensors().values()] == [torch.float64] * len(intervention.tensors())
    for name, tensor in intervention.tensors().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(moved.tensors()[name].float(), tensor)


def test_an_intervention_without_a_formula_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Intervention(layer=0)


WRONG: dict[str, list[Any]] = {
    "layer": [None, "1", True, 1.5],
    "strength": [None, "1", True, 10**400, float("nan")],
    "unit": [None, [1.0], float("inf")],
    "positions": [3, [1], "12", (1.5,), (4,)],
    "n_prompt": [1.5, "4", True],
    "prompt": [3, [1.0]],
    "direction": [None, [1.0], "1", 2**64],
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_values_of_another_kind_are_refused_in_words(name: str, value: Any) -> None:
    fields: dict[str, Any] = {"layer": 1, "direction": torch.ones(32), "positions": (1,), "n_prompt": 4}
    Steer(**fields)
    with pytest.raises(EditError, match=r"expected|must be among"):
        Steer(**fields | {name: value})
