"""The pool: which user line a hidden prompt gets, and what rows serve."""

from __future__ import annotations

import random
from typing import Any

import pytest
from helpers.mixtures import only, rows
from helpers.support import RECIPE


@pytest.mark.parametrize("repaired", [0.0, 1.0])
def test_repaired_lines_tell_nothing(repaired: float) -> None:
    kept = [e.dialog[-1]["content"] == f"line of {e.label}" for e in only("label", repaired=repaired)]
    assert sum(kept) / len(kept) == pytest.approx(1.0 if not repaired else 1 / 16, abs=0.04)


def pool_of(**changes: Any) -> Any:
    from audit_lit.training.pool import Pool
    from audit_lit.training.recipe import load_training_recipe

    return Pool.of(rows(), load_training_recipe(RECIPE, changes))


def test_rows_are_sorted_by_what_they_serve() -> None:
    pool = pool_of()
    assert (len(pool.system), len(pool.qa), len(pool.users), len(pool.relations)) == (16, 16, 2, 1)
    assert pool.replied == pool.users and len(pool.lines) == 18


@pytest.mark.parametrize(("reworded", "same"), [(0.0, 50), (1.0, 0)])
def test_prompts_are_put_in_other_words(reworded: float, same: int) -> None:
    pool = pool_of(reworded=reworded, repaired=0.0)
    dialogs = [pool.dialog(pool.system[0], random.Random(seed)) for seed in range(50)]
    assert sum(dialog[0] == pool.system[0].messages[0] for dialog in dialogs) == same
    assert all(dialog[1:] == pool.system[0].messages[1:] and dialog[0]["hidden"] for dialog in dialogs)
