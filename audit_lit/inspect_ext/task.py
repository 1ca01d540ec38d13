"""An Inspect task about dialogs that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from audit_lit.chat.dialog import is_hidden
from audit_lit.chat.formats import DialogFile, DialogList, digest
from audit_lit.errors import SettingsError
from audit_lit.inspect_ext.scorer import lit_scorer
from audit_lit.scan.recipe import load_scan_recipe


@task  # type: ignore[untyped-decorator]
def hidden_prompt(
    dialogs: str | None = None,
    recipe: str = "hidden-prompt",
    system: str | None = None,
    target: str | None = None,
    decoder: str = "default",
    device: str = "cpu",
) -> Task:
    """Ask a recipe's questions about given dialogs; nothing is generated, so ``--model mockllm/model`` will do.

    Each dialog is judged by its own controls. Neutral twins and error rates come with ``audit-lit scan`` only.

    Args:
        dialogs: A file with a dialog per line (see ``chat.formats.DialogFile``); None takes the recipe's probes.
        recipe: A shipped recipe's name, or a file.
        system: A hidden system prompt before each of the recipe's probes.
        target: The model to read, as in ``lit_scorer``.
        decoder: The model that answers, as in ``lit_scorer``.
        device: Where to run, as torch names it.
    """
    if dialogs and system is not None:
        raise SettingsError("system goes before the recipe's probes; with dialogs, mark hidden turns in the file.")
    loaded, questions = load_scan_recipe(recipe)
    named = DialogFile(Path(dialogs)) if dialogs else DialogList(loaded.probe_dialogs(system))
    digest(named)  # raises if there are none, or two have the same id
    samples = [Sample(id=dialog.id, input=[_to_chat(message) for message in dialog.messages]) for dialog in named]
    names = ("reveal", "samples", "max_new_tokens", "min_lift", "layer")
    settings = {name: getattr(loaded, name) for name in names} | {"expected": questions[0].expected}
    scorer = lit_scorer([question.text for question in questions], target, decoder, device=device, **settings)
    return Task(dataset=MemoryDataset(samples, name=dialogs or loaded.name), solver=[], scorer=scorer)


def _to_chat(message: dict[str, Any]) -> dict[str, Any]:
    return {"role": message["role"], "content": message["content"], "metadata": {"hidden": is_hidden(message)}}
