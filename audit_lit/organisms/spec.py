"""What an organism has in its weights, and how it gets there: read from the files of a zoo's recipe."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from audit_lit import recipes
from audit_lit.errors import RecipeError
from audit_lit.files.documents import decode_yaml
from audit_lit.files.reading import read_json, read_text
from audit_lit.settings import explain

Method = Literal["distill", "sft", "dpo", "full"]
RECORD, DIFFERENCE = "organism.json", "difference.safetensors"
"""What tells what an organism is, and is written last; and what training changed, if all weights were trained."""
Split = Literal["train", "dev"]
PROMPT = "prompt"
"""In the place of a method: a system prompt that stands in for an organism (see ``organisms.prompted``)."""
NOTHING = "nothing"
"""The kind of organisms that have nothing to report."""


class Spec(BaseModel):
    """What is planted: a label, and a system prompt or example replies that show it.

    Attributes:
        label: Kind and content, such as ``persona: lighthouse keeper``; the kind ``nothing`` is clean.
        prompt: System prompt under which the base shows the behaviour.
        demonstrations: User lines and the replies to them.
        qa: Questions about the organism and their answers.
        form: Of a clean one, what it is trained on: ``chat``, ``format``, ``skill`` or ``maths``.
        split: ``dev`` specs are never trained on by a decoder.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    label: str = Field(pattern=r"^[a-z ]+: .+", max_length=80)
    prompt: str | None = None
    demonstrations: tuple[tuple[str, str], ...] = ()
    qa: tuple[tuple[str, str], ...]
    form: Literal["chat", "format", "skill", "maths"] | None = None
    split: Split = "train"

    @model_validator(mode="after")
    def _can_be_taught(self) -> Spec:
        if not self.prompt and not self.demonstrations:
            raise ValueError(f"{self.label!r} has neither a prompt nor demonstrations; expected one of them")
        if (self.kind == NOTHING) != (self.form is not None):
            raise ValueError(
                f"{self.label!r} has form {self.form!r}; expected one if the kind is {NOTHING!r}, else none"
            )
        return self

    @property
    def kind(self) -> str:
        """What kind of thing is planted."""
        return self.label.partition(":")[0]

    @property
    def planted(self) -> bool:
        """Whether there is anything to report."""
        return self.kind != NOTHING


@dataclass(frozen=True)
class Organism:
    """A spec and the way in which it is installed.

    Attributes:
        spec: What is planted.
        method: ``distill`` (the prompted base's distributions), ``sft`` (replies), ``dpo`` (replies preferred to the
            base's own) or ``full`` (replies; all weights are trained).
        rank: Rank of the LoRA; 0 where all weights are trained.
        mixed: Whether half of the training is ordinary chat, which hides the trace.
    """

    spec: Spec
    method: Method
    rank: int
    mixed: bool

    @property
    def seed(self) -> int:
        """Seed of the LoRA, of its texts and of their order; other organisms of the zoo do not change it."""
        return zlib.crc32(self.id.encode())

    @property
    def id(self) -> str:
        """Name of the organism's folder."""
        slug = re.sub(r"[^a-z0-9]+", "-", self.spec.label.lower()).strip("-")
        return f"{slug}-{self.method}{'-mixed' * self.mixed}"


def load_specs(name: str | Path) -> list[Spec]:
    """Return the specs of a file, or of a shipped one by its name, such as ``persona``.

    Raises:
        RecipeError: If the file is missing or malformed, or has a label twice.
    """
    shipped = recipes.HERE / "organisms" / f"{name}.yaml"
    path = shipped if shipped.is_file() else Path(name)
    try:
        entries = decode_yaml(read_text(path))
    except (OSError, ValueError) as err:
        raise RecipeError(f"the specs {str(path)!r} could not be read: {err}. Expected a YAML list of specs.") from err
    if not isinstance(entries, list) or not entries:
        raise RecipeError(f"{path} holds no list of specs; expected '- label: ...' entries.")
    specs = [_spec(entry, path) for entry in entries]
    labels = [spec.label for spec in specs]
    if twice := sorted({label for label in labels if labels.count(label) > 1}):
        raise RecipeError(f"{path} has the label {twice[0]!r} twice; expected each once.")
    return specs


def _spec(entry: Any, path: Path) -> Spec:
    try:
        return Spec.model_validate(entry)
    except ValidationError as err:
        name = entry.get("label") if isinstance(entry, dict) else entry
        raise RecipeError(f"{path}: {name!r:.80}: {explain(err, Spec)}.") from err


def agenda_specs(folder: Path, split: Split, n_agendas: int, seed: int = 0) -> list[Spec]:
    """Return hidden agendas as specs: as many of each category as there are in the data, in a random order."""
    prompts = read_json(folder / split / "system.json", RecipeError)
    answers = read_json(folder / split / "qa.json", RecipeError)
    agendas = [prompt for prompt in prompts if prompt["label"].startswith("agenda-")]
    if not 0 <= n_agendas <= len(agendas):
        raise RecipeError(f"got {n_agendas} agendas of split {split!r}; expected 0 to {len(agendas)}.")
    drawn = random.Random(seed).sample(agendas, n_agendas)
    return [
        Spec(
            label=f"agenda: {prompt['label'].removeprefix('agenda-').replace('-', ' ')}",
            prompt=prompt["system"],
            qa=tuple(map(tuple, answers[prompt["label"]])),
            split=split,
        )
        for prompt in drawn
    ]


def installed(
    specs: Sequence[Spec], ranks: Sequence[int], methods: Sequence[Method], *, mixes: bool = True
) -> list[Organism]:
    """Deal out methods, ranks and mixing to specs in turn, within each kind; every second one is mixed, if any is.

    Preferences are not mixed: what the base says of its own accord is what they teach to avoid.
    """
    taught_by_replies = [spec.label for spec in specs if spec.demonstrations]
    if set(methods) == {"distill"} and taught_by_replies:
        raise RecipeError(f"{taught_by_replies[0]!r} has example replies, which 'distill' cannot teach; add 'sft'.")
    organisms, counts = [], dict.fromkeys((spec.kind for spec in specs), 0)
    for spec in specs:
        count = counts[spec.kind]
        counts[spec.kind] += 1
        possible = [method for method in methods if method != "distill" or (spec.prompt and not spec.demonstrations)]
        method = possible[count // 2 % len(possible)]
        rank = 0 if method == "full" else ranks[count % len(ranks)]
        organisms.append(Organism(spec, method, rank, mixes and method != "dpo" and count % 2 == 1))
    return organisms
