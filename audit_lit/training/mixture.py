"""The mixture of a training run: which source each example comes from."""

from __future__ import annotations

import random
from collections.abc import Sequence

from audit_lit.data.rows import Example, Row
from audit_lit.errors import DataError, RecipeError
from audit_lit.training.pool import Pool
from audit_lit.training.recipe import TrainingRecipe
from audit_lit.training.sources import SOURCES

WITH_QUESTIONS = ("qa", "relation")
"""The sources whose rows have questions of their own."""


class Mixture:
    """Examples drawn by weight from the sources; example ``i`` depends on the seed and ``i`` alone."""

    def __init__(self, rows: Sequence[Row], recipe: TrainingRecipe) -> None:
        """Check that every source of the recipe can be served.

        Raises:
            RecipeError: If a source of the mixture has no questions.
            DataError: If the data has no rows for a source of the mixture.
        """
        self.recipe, self._pool = recipe, Pool.of(rows, recipe)
        pool = self._pool
        pools = {"qa": pool.qa, "user": pool.users, "relation": pool.relations, "next_text": pool.replied}
        for share in recipe.mixture:
            if not pools.get(share.source, pool.system):
                raise DataError(
                    f"the mixture wants {share.source!r} examples, but the data has no row for them; name a folder "
                    "that holds some with --data, or leave the source out of the recipe."
                )
            if not share.questions and share.source not in WITH_QUESTIONS:
                raise RecipeError(
                    f"source {share.source!r} needs questions; add 'questions: [...]' to it in the recipe."
                )

    def draw(self, index: int) -> Example:
        """Return example number ``index``."""
        rng = random.Random(f"{self.recipe.seed}/{index}")
        shares = self.recipe.mixture
        share = rng.choices(shares, weights=[share.weight for share in shares])[0]
        return SOURCES[share.source](self._pool, share, rng)
