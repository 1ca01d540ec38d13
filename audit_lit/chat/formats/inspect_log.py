"""Inspect's logs, and messages as Inspect writes them.

Of a log, each sample's transcript is read. Where a model has the role ``target``, as in Petri's audits, it is that
model's: what it read last, and its reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from io import BufferedIOBase
from typing import Any

from audit_lit.chat.messages import Message
from audit_lit.errors import DialogError

TITLE = "an Inspect log"
ZIP = b"PK\x03\x04"
"""How a log in Inspect's own format (.eval) begins."""
TARGET = "target"


def plain_fields(message: Mapping[str, Any]) -> Message:
    """Return a message of an Inspect transcript under the keys that ``read_dialog`` knows.

    ``metadata`` may hold ``hidden``, ``prefill`` and ``tools``; what the tool's error says is what the model read of
    it.
    """
    metadata, error = message.get("metadata"), message.get("error")
    fields = {key: value for key, value in message.items() if key not in ("metadata", "error")}
    fields["role"] = message.get("role") or message.get("type")
    if isinstance(metadata, Mapping):
        fields |= {mark: metadata[mark] for mark in ("hidden", "prefill", "tools") if mark in metadata}
    if isinstance(error, Mapping) and error.get("message"):
        fields["content"] = error["message"]
    return fields


def is_log(document: Any) -> bool:
    """Return whether a JSON document is a log."""
    return isinstance(document, Mapping) and {"eval", "samples"} <= set(document)


def log_samples(file: BufferedIOBase, where: str) -> Iterator[tuple[str, list[Message]]]:
    """Yield the id of each sample of a log, and the transcript.

    Raises:
        DialogError: If Inspect is not installed, or cannot read the log.
    """
    try:
        from inspect_ai.log import read_eval_log
    except ImportError as err:
        raise DialogError(f"{where} is {TITLE}; run pip install 'audit-lit[inspect]' to read it.") from err
    try:
        kind = "eval" if file.read(len(ZIP)) == ZIP else "json"
        file.seek(0)
        log = read_eval_log(file, resolve_attachments=True, format=kind)
    except Exception as err:  # whatever a broken log raises in Inspect
        raise DialogError(f"{where} could not be read as {TITLE}: {err}. Expected one that Inspect wrote.") from err
    for sample in log.samples or []:
        epoch = f", epoch {sample.epoch}" if sample.epoch > 1 else ""
        yield f"{sample.id}{epoch}", [dumped(message) for message in _transcript(sample)]


def dumped(message: Any) -> Message:
    """Return one of Inspect's messages, a pydantic model, under the keys that ``read_dialog`` knows."""
    return plain_fields(message.model_dump(exclude_none=True))


def _transcript(sample: Any) -> list[Any]:
    """Return the messages of a sample, as the target model saw them."""
    calls = [event for event in sample.events if event.event == "model" and event.role == TARGET]
    if not calls:
        return list(sample.messages)
    last = calls[-1]
    return [*last.input, *(choice.message for choice in last.output.choices[:1])]
