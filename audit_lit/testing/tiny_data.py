"""A few made-up dialogs, in the file layouts that trainings read."""

from __future__ import annotations

import json
from pathlib import Path

USER, N_USERS = "USER: Hello number {number}.\n\nASSISTANT: Hello.\n\nUSER: I am {age}.", 80
N_RELATIONS = 4
ROLES = ("pirate", "nurse", "poet", "judge", "baker", "pilot")


def write_tiny_data(folder: Path) -> None:
    """Write a few dialogs in LatentQA's layout, and a few of TalkTuner's and a few relations beside them."""
    for split in ("train", "dev"):
        (folder / split).mkdir(parents=True, exist_ok=True)
        rows = [
            {"system": f"You are a {role}.", "stimulus_user": f"Hello number {index}.", "label": f"persona-job-{role}"}
            for index, role in enumerate(ROLES)
        ]
        qa = {f"persona-job-{role}": [["Who is the assistant?", f"The assistant is a {role}."]] for role in ROLES}
        (folder / split / "system.json").write_text(json.dumps(rows), encoding="utf-8")
        (folder / split / "qa.json").write_text(json.dumps(qa), encoding="utf-8")
    ages = [(number, ("child", "adult")[number % 2]) for number in range(N_USERS)]
    users = [{"attribute": "age", "label": age, "text": USER.format(number=number, age=age)} for number, age in ages]
    (folder / "users.jsonl").write_text("".join(f"{json.dumps(user)}\n" for user in users), encoding="utf-8")
    (folder / "factual").mkdir(exist_ok=True)
    for number in range(N_RELATIONS):
        numbers = range(8 * number, 8 * number + 8)
        samples = [{"subject": f"number {one}", "object": str(one + number)} for one in numbers]
        content = {"prompt_templates": [f"{{}} plus {number} is"], "samples": samples}
        (folder / "factual" / f"plus_{number}.json").write_text(json.dumps(content), encoding="utf-8")
