"""The recipe of a zoo: which organisms it has, and how they are trained."""

from __future__ import annotations

from pathlib import Path

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
        agendas: Number of hidden agendas of each split that are drawn from the shipped data.
        methods: The ways in which organisms are installed (see ``spec.Organism``).
        unseen: Ways in which organisms of the split ``dev`` alone are installed, beside those.
        ranks: Ranks of the LoRAs, dealt out in turn.
        n_lines: Number of user lines that an organism with a prompt is trained on.
        max_new_tokens: Length of the longest reply that is trained on, in tokens.
        steps: Number of training steps.
        batch_size: Number of replies of each organism in a step.
        lr: Highest learning rate.
        group: Number of organisms in a forward pass.
        seed: Seed of everything that is random.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    target: str
    specs: tuple[str, ...]
    agendas: dict[Split, int] = {}
    methods: tuple[Method, ...] = ("distill", "sft")
    unseen: tuple[Method, ...] = ()
    ranks: tuple[int, ...] = (1, 2, 4, 8, 16)
    n_lines: int = Field(default=24, ge=1)
    max_new_tokens: int = Field(default=32, ge=1)
    steps: int = Field(default=12, ge=1)
    batch_size: int = Field(default=6, ge=1)
    lr: float = Field(default=2e-3, gt=0)
    group: int = Field(default=8, ge=1)
    seed: int = Field(default=0, ge=0)

    def all_specs(self) -> list[Spec]:
        """Return what is planted, of both splits, in the order of the recipe."""
        specs = [spec for name in self.specs for spec in load_specs(name)]
        folder = recipes.HERE / "data" / "agendas"
        return [*specs, *(spec for split, n in self.agendas.items() for spec in agenda_specs(folder, split, n))]

    def organisms(self) -> list[Organism]:
        """Return every organism of the zoo; those of the unseen methods come last."""
        specs = self.all_specs()
        seen = installed(specs, self.ranks, self.methods)
        held_out = [spec for spec in specs if spec.split == "dev"]
        unseen = [organism for method in self.unseen for organism in installed(held_out, self.ranks, [method])]
        return [*seen, *unseen]


def load_zoo_recipe(path: str | Path) -> ZooRecipe:
    """Read a recipe of a zoo; raise ``RecipeError`` if it is malformed."""
    shipped = recipes.HERE / "organisms" / f"{path}.yaml"
    content = read_yaml(shipped if shipped.is_file() else Path(path), RecipeError)
    try:
        return ZooRecipe.model_validate(content)
    except ValidationError as err:
        raise RecipeError(f"recipe {str(path)!r}: {explain(err, ZooRecipe)}.") from err
