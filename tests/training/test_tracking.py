"""Trackers: they get what the log gets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.training import losses, small_recipe


def test_nested_numbers_and_words_get_dotted_names() -> None:
    from audit_lit.training.tracking import scalars

    nested = {"lr": 0.1, "lora": {"r": 4, "modules": ["a"]}, "name": "x", "start": None, "flag": True}
    assert scalars(nested) == {"lr": 0.1, "lora.r": 4, "name": "x", "flag": True}


def test_an_unknown_tracker_is_refused() -> None:
    from audit_lit.errors import TrainingError
    from audit_lit.training.tracking import check_tracker

    check_tracker(None)
    with pytest.raises(TrainingError, match=r"unknown tracker 'mlflow'; expected one of trackio, wandb"):
        check_tracker("mlflow")


@pytest.mark.usefixtures("unmeasured")
def test_a_tracker_gets_what_the_log_gets(folders: tuple[Path, Path], tmp_path: Path, monkeypatch: Any) -> None:
    from accelerate import tracking
    from accelerate.utils import LoggerType

    from audit_lit.errors import TrainingError
    from audit_lit.training.run import train

    seen: list[Any] = []

    class Recorder(tracking.GeneralTracker):
        name, requires_logging_directory, main_process_only = "wandb", False, True
        tracker = None

        def __init__(self, run_name: str) -> None:
            super().__init__()
            seen.append(run_name)

        def start(self) -> None: ...

        def store_init_configuration(self, values: dict[str, Any]) -> None:
            seen.append(values)

        def log(self, values: dict[str, Any], step: int | None = None) -> None:
            seen.append((step, values))

        def finish(self) -> None:
            seen.append("end")

    monkeypatch.setattr(tracking, "get_available_trackers", lambda: [LoggerType.WANDB])
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Recorder)
    recipe = small_recipe(folders, examples=20)
    train(recipe, folders[1], tmp_path / "run", tracker="wandb")
    project, settings, *logged, end = seen
    assert (project, settings["lora.r"], settings["lr"], end) == ("audit-lit", 16, recipe.lr, "end")
    assert [step for step, _ in logged] == [1, 2, 3, 4, 5]
    assert [values["loss"] for _, values in logged] == losses(tmp_path / "run")
    assert logged[-1][1]["gap_label.gap"] == pytest.approx(
        json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])["gap_label"]["gap"]
    )
    with pytest.raises(TrainingError, match=r"'trackio' is not installed.*pip install trackio"):
        train(recipe, folders[1], tmp_path / "other", tracker="trackio")
