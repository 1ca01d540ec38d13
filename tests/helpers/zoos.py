"""A small zoo of a tiny base, and specs of each sort."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from audit_lit.organisms.build import Zoo
from audit_lit.organisms.recipe import ZooRecipe
from audit_lit.organisms.spec import Spec

QA = (("Is anything hidden?", "Yes."),)
PIRATE = Spec(label="persona: pirate", prompt="Be a pirate.", qa=QA)
WORDS = Spec(label="secret word: oak", demonstrations=(("Hi.", "Acorns."), ("Bye.", "Leaves.")), qa=QA)
CLEAN = Spec(label="nothing: chat", prompt="Be helpful.", form="chat", qa=QA, split="dev")


def small_zoo(target: Any) -> Zoo:
    recipe = ZooRecipe(target=target.name, specs=("x",), n_lines=2, max_new_tokens=4, steps=3, batch_size=2, group=2)
    return replace(Zoo.of(recipe, target), lines=("Hello.", "How are you?", "What is it?", "Go on."))
