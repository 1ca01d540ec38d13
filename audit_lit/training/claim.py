"""The claim of a training run on its folder: which recipe and which data the folder is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from audit_lit.decoder.config import DecoderConfig
from audit_lit.errors import TrainingError
from audit_lit.files import read_json, write_whole
from audit_lit.training.recipe import TrainingRecipe

FILE = "run.json"


@dataclass(frozen=True)
class Claim:
    """What a run folder is for.

    Attributes:
        data: SHA-256 of the training data.
        examples_in_all: Number of examples that the decoder is trained on, those of its start counted.
        recipe: The recipe of the run.
    """

    data: str | None
    examples_in_all: int | None
    recipe: TrainingRecipe

    @classmethod
    def of(cls, recipe: TrainingRecipe, config: DecoderConfig) -> Claim:
        """Return the claim of the run that trains a decoder of this configuration."""
        return cls(config.training_data, config.examples, recipe)

    @classmethod
    def load(cls, folder: Path) -> Claim | None:
        """Read the claim of a run folder; None if it has none. Settings that later versions added have their defaults.

        Raises:
            TrainingError: If it is malformed.
        """
        path = folder / FILE
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
        """Raise if a folder holds another run.

        Raises:
            TrainingError: If it does.
        """
        if Claim.load(folder) not in (None, self):
            raise TrainingError(
                f"{folder} holds a run of another recipe or on other data; name another folder with --out, or delete "
                "it."
            )

    def save(self, folder: Path) -> None:
        """Write the claim into a folder, which is created if it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        content = {"data": self.data, "examples_in_all": self.examples_in_all, **self.recipe.model_dump()}
        write_whole(folder / FILE, json.dumps(content, indent=2))
