"""Runs Inspect on the tiny models and reads the logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

FAST = {"samples": 1, "max_new_tokens": 4}


def models_of(target: Any, decoder: Any, folder: Path, threshold: float | None) -> dict[str, str]:
    """The names of the target and of a decoder that is saved with a threshold."""
    decoder.config = decoder.config.model_copy(update={"lift_threshold": threshold})
    decoder.save(folder)
    return {"target": target.name, "decoder": str(folder)}


def run(task: Any, folder: Path, model: str = "mockllm/model") -> Any:
    import inspect_ai

    (log,) = inspect_ai.eval(task, model=model, log_dir=str(folder), display="none")
    return inspect_ai.log.read_eval_log(log.location)


def scored(folder: Path, transcripts: list[Any], **settings: Any) -> Any:
    """The log of the scorer on given transcripts."""
    import inspect_ai

    from audit_lit.inspect_ext import lit_scorer

    samples = [inspect_ai.dataset.Sample(input=messages, id=str(row)) for row, messages in enumerate(transcripts)]
    scorer = lit_scorer(**{"questions": "What is it?", **FAST, **settings})
    return run(inspect_ai.Task(dataset=samples, solver=[], scorer=scorer), folder)


def score_of(sample: Any) -> Any:
    return sample.scores["lit_scorer"]


def chat(role: str, content: Any, **fields: Any) -> Any:
    from inspect_ai import model

    return getattr(model, f"ChatMessage{role.capitalize()}")(content=content, **fields)
