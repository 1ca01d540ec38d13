"""What a run folder holds beside its log: the claim of one run on it, and the checkpoint to resume from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from audit_lit.errors import TrainingError
from audit_lit.files.reading import check_tensors, read_json
from audit_lit.files.writing import RUN, dump_json, replacing, write_whole
from audit_lit.training.recipe import TrainingRecipe

FILE = "checkpoint.safetensors"
STATE = ("step", "exp_avg", "exp_avg_sq")
"""The state that AdamW keeps for each parameter."""

Parameters = Mapping[str, nn.Parameter]


@dataclass(frozen=True)
class Claim:
    """What a run folder is for."""

    data: str | None
    """SHA-256 of the training data."""
    examples_in_all: int | None
    """Number of examples that the decoder is trained on, those of its start counted."""
    recipe: TrainingRecipe

    @classmethod
    def load(cls, folder: Path) -> Claim | None:
        """Read the claim on a run folder, if it has one; settings that later versions added have their defaults."""
        path = folder / RUN
        if not path.is_file():
            return None
        try:
            content = read_json(path, TrainingError)
            data, examples = content.pop("data"), content.pop("examples_in_all")
            return cls(data, examples, TrainingRecipe.model_validate(content))
        except (AttributeError, KeyError, TypeError, ValidationError) as err:
            raise TrainingError(
                f"{path} could not be read as the file of a training run ({err}); name another folder with --out."
            ) from err

    def check(self, folder: Path) -> None:
        """Raise if a folder holds another run."""
        if Claim.load(folder) not in (None, self):
            raise TrainingError(
                f"{folder} holds a run of another recipe or on other data; name another with --out, or delete it."
            )

    def save(self, folder: Path) -> None:
        """Write the claim into a folder, which is created if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"data": self.data, "examples_in_all": self.examples_in_all, **self.recipe.model_dump()}
        write_whole(folder / RUN, dump_json(content, indent=2))


def save_checkpoint(
    folder: Path,
    parameters: Parameters,
    average: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    metadata: dict[str, str],
) -> None:
    """Write a checkpoint by one rename, so that a killed run keeps the last one or has this one.

    Raises:
        TrainingError: If a value is not finite; the last checkpoint is kept.
    """
    from safetensors.torch import save_file

    tensors = {f"parameter/{name}": parameter.detach() for name, parameter in parameters.items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for name, parameter in parameters.items():
        tensors |= {f"{key}/{name}": value.detach() for key, value in optimizer.state[parameter].items()}
    check_tensors(tensors, f"step {metadata.get('step')}", TrainingError)
    with replacing(folder / FILE) as path:
        save_file({name: value.cpu().contiguous() for name, value in tensors.items()}, path, metadata=metadata)


def load_checkpoint(
    folder: Path, parameters: Parameters, average: Mapping[str, Tensor], optimizer: torch.optim.Optimizer
) -> dict[str, str]:
    """Restore what ``save_checkpoint`` wrote and return its metadata; empty if there is no checkpoint.

    Raises:
        TrainingError: If the file is cut short, of another run, or holds values that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    path = folder / FILE
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        _check_shapes(tensors, parameters, average)
        if int(metadata["step"]) < 1:
            raise ValueError(f"it is of step {metadata['step']}")
    except (OSError, SafetensorError, KeyError, ValueError) as err:
        raise TrainingError(
            f"{path} is cut short, broken or of another run ({err}); delete it to train from the start, or name "
            "another folder with --out."
        ) from err
    check_tensors(tensors, path, TrainingError)
    for name, parameter in parameters.items():
        parameter.data.copy_(tensors[f"parameter/{name}"])
        optimizer.state[parameter] = {key: tensors[f"{key}/{name}"] for key in STATE}
    for name, value in average.items():
        value.copy_(tensors[f"average/{name}"])
    return metadata


def _check_shapes(tensors: Mapping[str, Tensor], parameters: Parameters, average: Mapping[str, Tensor]) -> None:
    """Raise a KeyError or ValueError unless there is a tensor of the right shape for all that a run restores."""
    expected = {f"parameter/{name}": parameter.shape for name, parameter in parameters.items()}
    expected |= {f"{key}/{name}": parameter.shape for name, parameter in parameters.items() for key in STATE[1:]}
    expected |= {f"step/{name}": torch.Size() for name in parameters}
    expected |= {f"average/{name}": value.shape for name, value in average.items()}
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{name} has shape {tuple(tensors[name].shape)}; expected {tuple(shape)}")
