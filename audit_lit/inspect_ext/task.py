"""An Inspect task about dialogs that exist already."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample

from audit_lit.chat.dialog import is_hidden
from audit_lit.chat.formats import DialogFile, DialogList, Dialogs, NamedDialog, digest
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
    device: str | None = None,
    format: str | None = None,
    dtype: str | None = None,
    device_map: str | dict[str, Any] | None = None,
    n_devices: int | None = None,
    max_memory: dict[Any, Any] | None = None,
    quantization: str | None = None,
) -> Task:
    """Ask a recipe's questions about given dialogs; nothing is generated, so ``--model mockllm/model`` will do.

    Each dialog is judged by its own controls. Neutral twins and error rates come with ``audit-lit scan`` only.

    Args:
        dialogs: A file of dialogs (see ``chat.formats.DialogFile``); None takes the recipe's probes.
        recipe: A shipped recipe's name, or a file.
        system: A hidden system prompt before each of the recipe's probes.
        target: The model to read, as in ``lit_scorer``.
        decoder: The model that answers, as in ``lit_scorer``.
        device: Where to run, as in ``lit_scorer``.
        format: Name of the file's format; None tells it by the content.
        dtype: Type of the target's weights, as in ``lit_scorer``; so are the others.
        device_map: How the target is split.
        n_devices: Over how many GPUs it is split evenly.
        max_memory: The most that each device may hold.
        quantization: ``8bit`` or ``4bit``.
    """
    if dialogs and system is not None:
        raise SettingsError("system goes before the recipe's probes; with dialogs, mark hidden turns in the file.")
    loaded, questions = load_scan_recipe(recipe)
    named: Dialogs = DialogFile(Path(dialogs), format) if dialogs else DialogList(loaded.probe_dialogs(system))
    digest(named)  # raises if there are none, or two have the same id
    readable = (dialog for dialog in named if isinstance(dialog, NamedDialog))
    samples = [Sample(id=dialog.id, input=list(map(to_chat, dialog.messages))) for dialog in readable]
    names = ("reveal", "samples", "max_new_tokens", "min_lift", "layer")
    settings = {name: getattr(loaded, name) for name in names} | {"expected": questions[0].expected}
    weights = {
        "device": device,
        "dtype": dtype,
        "device_map": device_map,
        "n_devices": n_devices,
        "max_memory": max_memory,
        "quantization": quantization,
    }
    scorer = lit_scorer([question.text for question in questions], target, decoder, **settings, **weights)
    return Task(dataset=MemoryDataset(samples, name=dialogs or loaded.name), solver=[], scorer=scorer)


def to_chat(message: dict[str, Any]) -> dict[str, Any]:
    """Return a plain message as Inspect has it; the scorer reads its marks from the metadata."""
    marks = {"hidden": is_hidden(message)} | {key: message[key] for key in ("prefill", "tools") if message.get(key)}
    fields = {key: value for key, value in message.items() if key not in ("hidden", "tool_calls", *marks)}
    calls = [
        {"id": call.get("id", str(number)), "function": function["name"], "arguments": function["arguments"]}
        for number, call in enumerate(message.get("tool_calls", []))
        for function in [call["function"]]
    ]
    return {**fields, "metadata": marks} | ({"tool_calls": calls} if calls else {})
