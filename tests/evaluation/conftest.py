"""A tiny decoder that was trained for a few steps, and the data that it is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True)
class Trained:
    """A trained pair, with the folders that it is in.

    Attributes:
        data: Folder of the data.
        folder: Folder of the decoder.
        target: The tiny model.
        decoder: The decoder for it.
        rows: All rows of the dev split in LatentQA's layout.
    """

    data: Path
    folder: Path
    target: Any
    decoder: Any
    rows: list[Any]

    @property
    def with_prompt(self) -> list[Any]:
        return [row for row in self.rows if row.system]

    @property
    def options(self) -> list[str]:
        """Options of the command line that name the pair."""
        return ["--target", str(self.data.parent / "tiny-llama"), "--decoder", str(self.folder)]


MEASURED = {"null": {"threshold_of_first_half": 0.1}, "calibration": {"claim_scale": (1.0, 0.0), "choice_scale": 1.0}}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """The pair that ``--smoke`` leaves, but with figures made up, since measuring takes a minute; read-only."""
    from audit_lit import Decoder, load_target
    from audit_lit.data.rows import load_rows
    from audit_lit.recipes import recipe_path
    from audit_lit.training import run
    from audit_lit.training.recipe import load_training_recipe
    from audit_lit.training.smoke import smoke_run

    root = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "measure", lambda *_: MEASURED)
        patch.setattr(run, "write_card", lambda *_: None)
        folder = smoke_run(load_training_recipe(recipe_path("smollm2-135m"), {"examples": 8}), root)
    target = load_target(str(root / "tiny-llama"))
    decoder = Decoder.from_pretrained(str(folder), target=target)
    return Trained(root / "data", folder, target, decoder, load_rows(root / "data" / "dev"))
