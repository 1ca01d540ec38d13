"""The recipe of a zoo: which organisms it has, and how they are trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from audit_lit import recipes
from audit_lit.errors import RecipeError
from audit_lit.files.reading import read_yaml
from audit_lit.organisms.spec import Method, Organism, Spec, Split, agenda_specs, installed, load_specs
from audit_lit.settings import explain


class ZooRecipe(BaseModel):
    """Everything that decides a zoo.

    Attributes:
        target: The model that the organisms are made of.
        specs: Names of shipped files of specs, or paths.
        splits: Splits of the specs that are taken.
        agendas: Number of hidden agendas of each split that are drawn from the shipped data.
        methods: The ways in which organisms are installed (see ``spec.Organism``).
        ranks: Ranks of the LoRAs, dealt out in turn.
        mixes: Whether every second organism is trained half on ordinary chat.
        n_lines: Number of user lines that an organism with a prompt is trained on.
        max_new_tokens: Length of the longest reply that is trained on, in tokens.
        steps: Number of training steps.
        batch_size: Number of replies of each organism in a step.
        lr: Highest learning rate.
        group: Number of organisms in a forward pass.
        seed: Seed of everything that is random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    target: str
    specs: tuple[str, ...] = Field(min_length=1)
    splits: tuple[Split, ...] = Field(default=("train", "dev"), min_length=1)
    agendas: dict[Split, int] = {}
    methods: tuple[Method, ...] = Field(default=("distill", "sft"), min_length=1)
    ranks: tuple[Annotated[int, Field(ge=1, le=256)], ...] = Field(default=(1, 2, 4, 8, 16), min_length=1)
    mixes: bool = True
    n_lines: int = Field(default=24, ge=1)
    max_new_tokens: int = Field(default=32, ge=1)
    steps: int = Field(default=12, ge=1)
    batch_size: int = Field(default=6, ge=1)
    lr: float = Field(default=2e-3, gt=0, le=1)
    group: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)

    def all_specs(self) -> list[Spec]:
        """Return what is planted, of both splits, in the order of the recipe."""
        specs = [spec for name in self.specs for spec in load_specs(name) if spec.split in self.splits]
        folder = recipes.HERE / "data" / "agendas"
        return [*specs, *(spec for split, n in self.agendas.items() for spec in agenda_specs(folder, split, n))]

    def organisms(self) -> list[Organism]:
        """Return every organism of the zoo; raise ``RecipeError`` if two would have one folder."""
        organisms = installed(self.all_specs(), self.ranks, self.methods, mixes=self.mixes)
        (folder, n_times), *_ = Counter(organism.id for organism in organisms).most_common(1)
        if n_times > 1:
            labels = [organism.spec.label for organism in organisms if organism.id == folder]
            raise RecipeError(f"{' and '.join(map(repr, labels[:2]))} share a folder, {folder!r}; reword one.")
        return organisms

    @property
    def training(self) -> dict[str, str | float]:
        """The settings that decide the weights of an organism, beside what it is."""
        return self.model_dump(include={"target", "n_lines", "max_new_tokens", "steps", "batch_size", "lr", "seed"})


def load_zoo_recipe(path: str | Path) -> ZooRecipe:
    """Read a recipe of a zoo; raise ``RecipeError`` if it is malformed."""
    shipped = recipes.HERE / "organisms" / f"{path}.yaml"
    content = read_yaml(shipped if shipped.is_file() else Path(path), RecipeError)
    try:
        return ZooRecipe.model_validate(content)
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: {explain(err, ZooRecipe)}.") from err
