"""A few made-up dialogs, in the file layouts of training data."""

from __future__ import annotations

import json
from pathlib import Path

USER = "USER: Hello number {number}.\n\nASSISTANT: Hello.\n\nUSER: I am {age}."
N_USERS = 80
N_RELATIONS = 4
ROLES = ("pirate", "nurse", "poet", "judge", "baker", "pilot")


def write_tiny_data(folder: Path) -> None:
    """Write a few dialogs in LatentQA's layout, and a few of TalkTuner's and a few relations beside them."""
    prompts = [
        {"system": f"You are a {role}.", "stimulus_user": f"Hello number {index}.", "label": f"persona-job-{role}"}
        for index, role in enumerate(ROLES)
    ]
    qa = {f"persona-job-{role}": [["Who is the assistant?", f"The assistant is a {role}."]] for role in ROLES}
    for split in ("train", "dev"):
        _write(folder / split / "system.json", json.dumps(prompts))
        _write(folder / split / "qa.json", json.dumps(qa))
    ages = [(number, ("child", "adult")[number % 2]) for number in range(N_USERS)]
    users = [{"attribute": "age", "label": age, "text": USER.format(number=number, age=age)} for number, age in ages]
    _write(folder / "users.jsonl", "".join(f"{json.dumps(user)}\n" for user in users))
    for added in range(N_RELATIONS):
        numbers = range(8 * added, 8 * added + 8)
        samples = [{"subject": f"number {number}", "object": str(number + added)} for number in numbers]
        content = {"prompt_templates": [f"{{}} plus {added} is"], "samples": samples}
        _write(folder / "factual" / f"plus_{added}.json", json.dumps(content))


def _write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
