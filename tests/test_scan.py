"""Audits: recipes, dialogs, twins, statistics, run folders, the engine, the command and its exit codes."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

DIALOG = [{"role": "system", "content": "Be a pirate."}, {"role": "user", "content": "Who are you?"}]
FAST = {"samples": 1, "max_new_tokens": 4, "twins": 2}


@pytest.fixture
def auditor(target: Any, make_decoder: Any) -> Any:
    from dataclasses import replace

    from audit_lit import Auditor

    decoder = make_decoder()
    decoder.protocol = replace(decoder.protocol, lift_threshold=0.1)
    return Auditor(target, decoder)


def dialogs(n: int) -> list[list[dict[str, str]]]:
    return [[DIALOG[0], {"role": "user", "content": f"Hello number {index}."}] for index in range(n)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# Recipes and questions


def test_every_shipped_recipe_loads_and_opens_with_its_command() -> None:
    from audit_lit.recipes import HERE, about_recipes, recipe_path
    from audit_lit.scan.recipe import is_scan_recipe, load_scan_recipe

    shipped = {path.stem for path in HERE.glob("*.yaml") if is_scan_recipe(path)}
    assert {"hidden-prompt", "persona", "user-model", "deception"} <= shipped
    for name in shipped:
        recipe, questions = load_scan_recipe(name)
        lines = recipe_path(name).read_text().splitlines()
        assert lines[0].startswith("# audit-lit scan") and f"--recipe {name}" in lines[0] and len(lines) <= 40
        assert recipe.name == name and recipe.probes and questions and about_recipes()[name]
        assert all(question.canary for question in questions)


def test_recipe_errors_name_the_nearest(tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.scan.recipe import load_scan_recipe

    with pytest.raises(RecipeError, match=r"unknown recipe 'persna'.*Did you mean 'persona'"):
        load_scan_recipe("persna")
    with pytest.raises(RecipeError, match=r"unknown key 'sample', did you mean 'samples'"):
        load_scan_recipe("persona", {"sample": 3})
    with pytest.raises(RecipeError, match="trains a decoder"):
        load_scan_recipe("smollm2-135m")
    with pytest.raises(RecipeError, match=r"unknown question 'persona-nam'.*Did you mean 'persona-name'"):
        load_scan_recipe("persona", {"questions": ["persona-nam"]})
    bad = tmp_path / "bad.yaml"
    bad.write_text("- a list")
    with pytest.raises(RecipeError, match="holds no settings"):
        load_scan_recipe(bad)


def test_a_users_questions_stand_beside_their_recipe(tmp_path: Path) -> None:
    from audit_lit.errors import RecipeError
    from audit_lit.scan.recipe import load_scan_recipe

    (tmp_path / "questions").mkdir()
    mine = tmp_path / "questions" / "mine.md"
    mine.write_text("---\nseverity: low\nexpected: Nothing.\n---\nWhat is it?\n")
    (tmp_path / "own.yaml").write_text("name: own\nquestions: [mine, persona-name]\n")
    _, (first, second) = load_scan_recipe(tmp_path / "own.yaml")
    assert (first.text, first.severity, first.expected) == ("What is it?", "low", "Nothing.")
    assert (first.id, second.id) == ("mine", "persona-name")
    mine.write_text("---\nseverity: low\n---\nWhat is it?\n")
    with pytest.raises(RecipeError, match="severity 'low' needs an 'expected' answer"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_bytes(b"---\n---\n\xff")
    with pytest.raises(RecipeError, match="could not be read"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_text("---\nseverty: low\n---\nWhat is it?\n")
    with pytest.raises(RecipeError, match=r"unknown key 'severty', did you mean 'severity'"):
        load_scan_recipe(tmp_path / "own.yaml")
    mine.write_text("What is it?\n")
    with pytest.raises(RecipeError, match="expected front matter"):
        load_scan_recipe(tmp_path / "own.yaml")


# Dialogs


def test_dialog_lines_may_be_lists_or_documents(tmp_path: Path) -> None:
    from audit_lit.scan.dialogs import DialogFile, digest

    path = write_lines(tmp_path / "d.jsonl", [DIALOG, {"id": "a", "messages": DIALOG}])
    assert [(case.id, list(case.messages)) for case in DialogFile(path)] == [("1", DIALOG), ("a", DIALOG)]
    assert digest(iter(DialogFile(path)))[0] == 2


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "no dialog to audit"),
        ("[]\n", "line 1: the dialog is empty"),
        ('[{"role": "user", "content": "Hi."}]\n{"messages"', "line 2 is not JSON"),
        ('{"text": 1}\n', "line 1 has no 'messages'"),
        ('[{"role": "robot", "content": "Hi."}]\n', "line 1: message 0 has role 'robot'"),
        ('[{"role": "user", "content": "Hi.", "secret": 1}]\n', "unknown keys"),
        ('{"id": 1, "messages": [{"role": "user", "content": "Hi."}]}\n' * 2, "two dialogs have the id '1'"),
    ],
)
def test_malformed_dialogs_name_the_line(tmp_path: Path, content: str, expected: str) -> None:
    from audit_lit.errors import DialogError
    from audit_lit.scan.dialogs import DialogFile, digest

    (tmp_path / "d.jsonl").write_text(content)
    with pytest.raises(DialogError, match=expected):
        digest(iter(DialogFile(tmp_path / "d.jsonl")))


def test_files_that_are_no_text_are_refused(tmp_path: Path) -> None:
    from audit_lit.errors import DialogError
    from audit_lit.scan.dialogs import DialogFile, digest

    (tmp_path / "d.jsonl").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "d.jsonl", tmp_path, tmp_path / "none.jsonl"):
        with pytest.raises(DialogError, match="could not be read"):
            digest(iter(DialogFile(path)))


# Twins


@given(n=st.integers(2, 6), seed=st.integers(0, 100), n_hidden=st.integers(0, 2), visible_system=st.booleans())
@settings(max_examples=50, deadline=None)
def test_twins_keep_the_visible_turns_and_hide_nothing(n: int, seed: int, n_hidden: int, visible_system: bool) -> None:
    from audit_lit.dialog import is_hidden
    from audit_lit.neutral import NEUTRAL, neutral_twins

    system = {"role": "system", "content": "Secret pirate orders.", "hidden": not visible_system}
    more = [{"role": "user", "content": "Secret.", "hidden": True}] * (n_hidden - 1)
    dialog = [*([system] if n_hidden or visible_system else []), *more, {"role": "user", "content": "Hi."}]
    twins = neutral_twins(dialog, n, random.Random(seed))
    assert len(twins) == n
    for twin in twins:
        hidden = "".join(m["content"] for m in twin if is_hidden(m))
        assert "ecret" not in hidden
        for sentence in NEUTRAL:
            hidden = hidden.replace(sentence, "")
        assert not hidden.strip()
        assert twin[-1] == dialog[-1]
    assert not any(is_hidden(m) and m["role"] == "system" for m in twins[0])


# Statistics


def test_the_p_value_ranks_the_dialogs_among_neutral_prompts() -> None:
    from audit_lit.scan.statistics import exceedance_p

    # own, bare, two neutral ones
    scores = np.array([[5.0, 9.0, 1.0, 6.0], [3.0, 0.0, 2.0, 3.0]])
    assert exceedance_p(scores) == (1 + 2 + 1) / (2 + 4)  # 6 and 3 reach; the bare twins' mean, 4.5, does, too
    scores[0, 1] = 0.0
    assert exceedance_p(scores) == (1 + 2) / 6
    assert exceedance_p(np.ones((5, 4))) == 1.0


@pytest.mark.parametrize("shared", [True, False])
def test_false_alarms_stay_below_alpha(shared: bool) -> None:
    from audit_lit.scan.statistics import corrected, exceedance_p

    rng = np.random.default_rng(1)
    alarms = 0
    for _ in range(400):
        prompts = rng.exponential(size=(8, 7, 2))  # what a prompt does to every dialog under it
        prompts[:, 1] = 0.0  # without one
        if shared:
            prompts[:, 0] = prompts[0, 0]
        scores = prompts + 0.1 * rng.normal(size=prompts.shape) + rng.normal(size=(8, 1, 1))
        alarms += min(corrected([exceedance_p(scores[..., at]) for at in range(2)])) <= 0.05
    assert alarms <= 400 * 0.075  # 20 expected at most


def test_intervals_of_few_dialogs_cover_the_mean() -> None:
    from scipy.stats import ttest_1samp

    from audit_lit.scan.statistics import few_interval, mean_interval

    rng = np.random.default_rng(0)
    draws = [mean_interval(rng.normal(size=3)) for _ in range(400)]
    assert 0.92 < np.mean([low < 0 < high for low, high in draws]) < 0.98
    values = rng.normal(size=5)
    expected = ttest_1samp(values, 0).confidence_interval(0.95)
    assert mean_interval(values) == (pytest.approx(expected.low), pytest.approx(expected.high))
    assert mean_interval(np.array([2.0])) == (2.0, 2.0)
    one = np.array([[-0.5, 1.5]])
    assert few_interval(np.array([0.5]), one) == (pytest.approx(-0.5), pytest.approx(1.5))
    low, high = few_interval(np.array([0.5] * 4), np.repeat(one, 4, axis=0))
    assert (low, high) == (pytest.approx(0.0), pytest.approx(1.0))  # four times as many: half as wide


def test_conformal_p_is_a_rank_among_all_twins() -> None:
    from audit_lit.scan.statistics import conformal_p

    scores = np.array([[5.0, 1.0, 2.0], [1.5, 3.0, 0.0]])
    assert conformal_p(scores).tolist() == [pytest.approx(1 / 5), pytest.approx(3 / 5)]


def record(place: int, lift: float, own: float, twins: list[float], text: str = "persona: pirate") -> dict[str, Any]:
    answer = {"text": text, "score": -1.0, "controls": {"no_activation": -1 - lift, "null": -5.0}, "lift": lift}
    answer |= {"interval": [lift - 0.1, lift + 0.1], "samples": [], "agreement": 1.0}
    shared = {"id": str(place), "place": place, "messages": DIALOG, "tokens": ["a"], "positions": [0], "layers": [2]}
    return {**shared, "answers": {"q": answer}, "expected": {"q": "Nothing."}, "scores": {"q": [own, *twins]}}


def judged(records: list[dict[str, Any]], expected: str | None = "Nothing.", threshold: float = 0.1) -> Any:
    from audit_lit.scan.findings import findings
    from audit_lit.scan.questions import Question

    severity = "high" if expected else "info"
    question = Question(id="q", text="What is it?", severity=severity, expected=expected)
    (found,) = findings([question], lambda: iter(records), alpha=0.05, threshold=threshold, heatmaps={})
    return found


def test_a_finding_needs_both_the_lift_and_the_difference_from_twins() -> None:
    rng = np.random.default_rng(0)
    neutral = [rng.normal(size=6).tolist() for _ in range(8)]
    planted = judged([record(at, 0.5 + at / 100, 5.0, neutral[at]) for at in range(8)])
    assert planted.raised and planted.q_value <= 0.05 and planted.description == "persona: pirate"
    assert planted.n_standing_out == 8 and planted.strongest_control == "no_activation"
    assert planted.effect == pytest.approx(np.mean([5 - np.mean(some) for some in neutral]))
    no_lift = judged([record(at, 0.05 + at / 100, 5.0, neutral[at]) for at in range(8)])
    assert not no_lift.raised and "not likelier enough than under no_activation" in no_lift.reason
    assert planted.evidence[0].answer["supported"] and planted.evidence[0].expected == "Nothing."
    like_twins = judged([record(at, 0.5 + at / 100, neutral[at][0], neutral[at]) for at in range(8)])
    assert not like_twins.raised and "do not differ from their neutral twins" in like_twins.reason
    assert judged([record(at, 0.5 + at / 100, 5.0, neutral[at]) for at in range(8)], expected=None).raised
    says_so = judged([record(at, 0.5 + at / 100, 5.0, neutral[at], "Nothing.") for at in range(8)])
    assert not says_so.raised and says_so.lift == 0 and says_so.n_supported == 0 and says_so.description == ""
    assert not any(one.answer["supported"] for one in says_so.evidence)
    strict = judged([record(at, 0.5 + at / 100, 5.0, neutral[at]) for at in range(8)], threshold=0.6)
    assert not strict.raised and strict.n_supported == 0


def test_records_of_a_repeated_chunk_count_once() -> None:
    rows = [record(at, 0.5, 5.0, [0.0, 1.0]) for at in range(4)]
    assert judged([*rows[:2], *rows]).n_dialogs == 4


# The engine


def test_records_say_what_ask_says(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    report = auditor.scan(dialogs(3), "hidden-prompt", out=tmp_path / "run", **FAST)
    records = list(RunFolder(tmp_path / "run").records())
    assert [one["id"] for one in records] == ["1", "2", "3"] and report.complete and report.n_read == 3
    question = load_scan_recipe("hidden-prompt")[1][0]
    alone = auditor.ask(dialogs(3)[1], question.text, samples=0, max_new_tokens=4)
    found = records[1]["answers"][question.id]
    assert found["text"] == alone.text and found["lift"] == pytest.approx(alone.lift, abs=1e-4)
    assert found["controls"] == pytest.approx(alone.controls, abs=1e-4)


def test_scores_are_the_expected_answers_nats(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.scan.folder import RunFolder
    from audit_lit.scan.recipe import load_scan_recipe

    auditor.scan(dialogs(1), "hidden-prompt", out=tmp_path / "run", **FAST)
    (found,) = RunFolder(tmp_path / "run").records()
    question = load_scan_recipe("hidden-prompt")[1][0]
    own = auditor.read(dialogs(1)[0]).activations
    nats = auditor.decoder.logprob(own, [question.text], [question.expected])[0]
    assert found["scores"][question.id][0] == pytest.approx(-float(nats.mean()), abs=1e-4)
    assert len(found["scores"][question.id]) == 1 + 41 and len(set(found["scores"][question.id])) > 2


def without_order(path: Path) -> list[str]:
    lines = [line for file in path.glob("records-*.jsonl") for line in file.read_text().splitlines()]
    return sorted(line for line in lines if line.endswith("}}"))


def test_a_killed_run_goes_on_without_redoing_or_losing(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.scan import engine
    from audit_lit.scan.measure import Measurement

    monkeypatch.setattr(engine, "CHUNK", 2)
    whole = auditor.scan(dialogs(5), "persona", out=tmp_path / "whole", **FAST)
    measured: list[str] = []
    original = Measurement.records

    def dies(self: Any, cases: Any) -> Any:
        if len(measured) == 2:
            raise KeyboardInterrupt
        measured.extend(case.id for case in cases)
        return original(self, cases)

    monkeypatch.setattr(Measurement, "records", dies)
    with pytest.raises(KeyboardInterrupt):
        auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    with (tmp_path / "run" / "records-0.jsonl").open("a") as file:
        file.write('{"id": "3", "half": {}')  # what kill -9 leaves

    def counted(self: Any, cases: Any) -> Any:
        measured.extend(case.id for case in cases)
        return original(self, cases)

    monkeypatch.setattr(Measurement, "records", counted)
    again = auditor.scan(dialogs(5), "persona", out=tmp_path / "run", **FAST)
    assert measured == ["1", "2", "3", "4", "5"]
    assert again.to_json() == whole.to_json()
    assert without_order(tmp_path / "run") == without_order(tmp_path / "whole")
    assert (tmp_path / "run" / "report.json").read_text() == whole.to_json() + "\n"


def test_several_processes_share_the_dialogs(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from dataclasses import dataclass

    import accelerate

    from audit_lit.scan import engine

    @dataclass
    class State:
        process_index: int
        num_processes: int = 2

        @property
        def is_main_process(self) -> bool:
            return self.process_index == 0

        def wait_for_everyone(self) -> None:
            pass

    monkeypatch.setattr(engine, "CHUNK", 2)
    one = auditor.scan(dialogs(5), "persona", out=tmp_path / "one", **FAST)
    for rank in (1, 0):
        monkeypatch.setattr(accelerate, "PartialState", lambda cpu, rank=rank: State(rank if cpu else -1))
        if rank == 1:  # the main process writes it first
            (tmp_path / "two").mkdir()
            (tmp_path / "two" / "run.json").write_bytes((tmp_path / "one" / "run.json").read_bytes())
        two = auditor.scan(dialogs(5), "persona", out=tmp_path / "two", **FAST)
    assert {path.name for path in (tmp_path / "two").glob("records*")} == {"records-0.jsonl", "records-1.jsonl"}
    assert two.to_json() == one.to_json()


def test_a_dialog_that_fails_while_read_leaves_the_audit_incomplete(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.errors import DialogError
    from audit_lit.scan.report import load_report

    original, broken = auditor.decoder.check_length, [True]

    def check_length(prompts: Any, n_new: int) -> None:
        if broken[0] and any("number 1" in auditor.target.tokenizer.decode(one.token_ids) for one in prompts):
            raise DialogError("a reader of text does not fit")  # its prompt is longer than the dialog
        original(prompts, n_new)

    auditor.decoder.check_length = check_length
    report = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert (
        not report.complete
        and report.n_read == 2
        and report.errors == (("2", "DialogError: a reader of text does not fit"),)
    )
    assert report.verdict.startswith("incomplete, 1 of 3")
    assert not load_report(tmp_path / "run").complete
    broken[0] = False
    (tmp_path / "run" / "records-0.jsonl").rename(tmp_path / "run" / "records-1.jsonl")  # of a run in two processes
    again = auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert again.complete and not again.errors


def test_run_folders_are_refused_when_they_cannot_be_used(auditor: Any, tmp_path: Path) -> None:
    from filelock import FileLock

    from audit_lit.errors import ScanError

    run = tmp_path / "run"
    auditor.scan(dialogs(1), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in dialogs, n_dialogs, n_twins"):
        auditor.scan(dialogs(2), "persona", out=run, **FAST)
    with pytest.raises(ScanError, match="differs in seed"):
        auditor.scan(dialogs(1), "persona", out=run, seed=1, **FAST)
    with FileLock(run / ".lock"), pytest.raises(ScanError, match="in use by another run"):
        auditor.scan(dialogs(1), "persona", out=run, **FAST)
    (tmp_path / "file").write_text("")
    with pytest.raises(ScanError, match="no folder"):
        auditor.scan(dialogs(1), "persona", out=tmp_path / "file", **FAST)


def test_a_decoder_without_a_threshold_needs_one(auditor: Any, target: Any, make_decoder: Any, tmp_path: Path) -> None:
    from audit_lit import Auditor
    from audit_lit.errors import ScanError

    unmeasured = Auditor(target, make_decoder())
    with pytest.raises(ScanError, match=r"nobody measured.*min_lift"):
        unmeasured.scan(dialogs(1), "persona", out=tmp_path / "run", **FAST)
    assert unmeasured.scan(dialogs(1), "persona", min_lift=0.2, **FAST).findings[0].threshold == 0.2


def test_a_full_disk_keeps_what_is_finished(auditor: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.errors import Incomplete
    from audit_lit.scan import engine, folder

    monkeypatch.setattr(engine, "CHUNK", 1)
    original, written = folder.RunFolder.append, []

    def full(self: Any, rank: int, records: Any) -> None:
        if len(written) == 1:
            monkeypatch.setattr(folder, "RECORDS", "full/records-{rank}.jsonl")  # a path that cannot be opened
        written.append(records)
        original(self, rank, records)

    monkeypatch.setattr(folder.RunFolder, "append", full)
    with pytest.raises(Incomplete, match="what is finished is kept"):
        auditor.scan(dialogs(3), "persona", out=tmp_path / "run", **FAST)
    assert len(without_order(tmp_path / "run")) == 1


def test_dialogs_that_do_not_fit_are_named_before_anything_runs(auditor: Any, tmp_path: Path) -> None:
    from audit_lit.errors import DialogError

    long = [{"role": "user", "content": "word " * 300_000}]
    path = write_lines(tmp_path / "d.jsonl", [DIALOG, long])
    with pytest.raises(DialogError, match=r"line 2 has \d+ tokens; the target's context holds"):
        auditor.scan(path, "persona", out=tmp_path / "run", **FAST)
    with pytest.raises(DialogError, match=r"line 1: reveal='user' selects nothing"):
        auditor.scan(write_lines(path, [DIALOG[:1]]), "persona", out=tmp_path / "run", **FAST)
    assert not (tmp_path / "run").exists()


def test_twins_run_in_the_baseline(auditor: Any, tmp_path: Path, tiny_folder: Path) -> None:
    import torch

    from audit_lit import load_target
    from audit_lit.scan.folder import RunFolder

    tuned = load_target(str(tiny_folder))
    with torch.no_grad():
        tuned.base.model.layers[1].mlp.down_proj.weight.mul_(3)
    from audit_lit import Auditor

    bare = [dialog[1:] for dialog in dialogs(1)]
    scores = {}
    for name, baseline in (("own", None), ("clean", auditor.target)):
        Auditor(tuned, auditor.decoder).scan(bare, "persona", out=tmp_path / name, baseline=baseline, **FAST)
        scores[name] = next(RunFolder(tmp_path / name).records())["scores"]["persona-name"]
    assert scores["own"][0] == scores["own"][1]  # the bare twin is the dialog itself
    assert scores["clean"][0] == scores["own"][0] and scores["clean"][1] != scores["own"][1]


def test_patching_the_whole_state_gives_the_whole_gain(auditor: Any) -> None:
    from audit_lit.scan.patching import patch

    found = patch(auditor, DIALOG, DIALOG[1:], "Who?", "A pirate.", reveal="last:1")
    assert found.layers[-1] == 2 and len(found.tokens) == 1
    assert found.nats[-1][0] == pytest.approx(found.whole, abs=2e-3)  # one token, read at that very layer
    assert abs(found.nats[0][0]) < abs(found.whole) and found.whole != 0
    same = patch(auditor, DIALOG, DIALOG, "Who?", "A pirate.")
    assert same.whole == pytest.approx(0, abs=2e-3) and np.abs(same.nats).max() < 2e-3


# The command


@pytest.fixture
def command(auditor: Any, monkeypatch: Any, tmp_path: Path) -> Iterator[Any]:
    import audit_lit

    monkeypatch.setattr(audit_lit, "load_target", lambda *_, **__: auditor.target)
    monkeypatch.setattr(audit_lit.Decoder, "from_pretrained", lambda *_, **__: auditor.decoder)
    from audit_lit.cli import cli

    monkeypatch.chdir(tmp_path)  # where run folders go by default
    fast = [part for key, value in FAST.items() for part in ("--set", f"{key}={value}")]
    yield lambda *args: CliRunner().invoke(cli, [*args, *(fast if args[0] == "scan" else [])])


def test_exit_codes_of_scan_and_report(command: Any, tmp_path: Path, monkeypatch: Any) -> None:
    from audit_lit.scan import folder

    path, run = write_lines(tmp_path / "d.jsonl", dialogs(2)), str(tmp_path / "run")
    clean = command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run, "--json")
    assert clean.exit_code == 0, clean.output
    assert json.loads(clean.stdout)["flagged"] is False
    assert command("report", run).exit_code == 0 and "not a clean bill of health" in command("report", run).output

    rows = [record(at, 0.5 + at / 100, 5.0, [0.0, 1.0, 2.0, 0.5, 0.2] * 5) for at in range(2)]
    for row in rows:
        row["expected"] = dict.fromkeys(("persona-name", "persona-topic"), "Nothing.")
        row["answers"] = dict.fromkeys(("persona-name", "persona-topic", "persona-or-goal"), row["answers"]["q"])
        row["scores"] = dict.fromkeys(("persona-name", "persona-topic"), row["scores"]["q"])
    monkeypatch.setattr("audit_lit.scan.measure.Measurement.records", lambda *_: [dict(row) for row in rows])
    monkeypatch.setattr("audit_lit.scan.engine._heatmaps", lambda *_: {})
    flagged = command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run + "2")
    assert flagged.exit_code == 1, flagged.output
    assert "flagged: high finding" in flagged.output and command("report", run + "2").exit_code == 1
    info = command(
        "scan", "tiny", "--recipe", "user-model", "--fail-on", "high", "--set", "questions=[persona-or-goal]"
    )
    assert info.exit_code == 3  # the probes are four, of which two come back

    assert command("scan", "tiny", "--recipe", "persna").exit_code == 2
    assert command("scan", "tiny", "--dialogs", str(path), "--system", "Hi.").exit_code == 2
    assert command("scan", "tiny", "--dialogs", str(tmp_path / "none.jsonl")).exit_code == 2
    assert command("report", str(tmp_path)).exit_code == 2
    monkeypatch.setattr(folder, "RECORDS", "none/records-{rank}.jsonl")
    assert command("scan", "tiny", "--recipe", "persona", "--dialogs", str(path), "--out", run + "3").exit_code == 3


def test_recipes_are_listed_and_shown(command: Any, tmp_path: Path) -> None:
    listed = command("recipes", "list", "--json")
    assert {"hidden-prompt", "persona", "smollm2-135m"} <= set(json.loads(listed.stdout))
    shown = command("recipes", "show", "persona")
    assert shown.exit_code == 0 and "persona-name (high)" in shown.output and "questions:" in shown.output
    assert command("recipes", "show", "smollm2-135m").exit_code == 0
    assert command("recipes", "show", "persna").exit_code == 2
