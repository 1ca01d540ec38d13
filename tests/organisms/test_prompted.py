"""System prompts that stand in for organisms: what they change, where nothing is changed, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from audit_lit.cli import cli
from audit_lit.data.rows import Row
from audit_lit.errors import ActivationError
from audit_lit.models.probe_texts import EDGES, N_EDGE, N_SLOTS, ProbeTexts
from audit_lit.organisms.library import Library
from audit_lit.organisms.prompted import prompted
from audit_lit.organisms.spec import PROMPT

LINES = ["How are you?", "What is it?"]


def row(label: str, system: str) -> Row:
    messages = ({"role": "system", "content": system, "hidden": True}, {"role": "user", "content": "Hi."})
    return Row(label, messages, (("Who?", "A pirate."),))


def test_a_prompt_moves_the_chat_and_leaves_bare_texts(target: Any) -> None:
    rows = [
        row("persona-job-pirate", "Be a pirate."),
        row("goal-style-rhyme", "Rhyme."),
        row("benign-shop-x", "Sell."),
        Row("x", ({"role": "user", "content": "x"},)),
    ]
    known, differences = zip(*prompted(rows, target, LINES, [1, 2]), strict=True)
    assert [(entry.id, entry.label, entry.method) for entry in known] == [
        ("persona-job-pirate", "persona: job pirate", PROMPT),
        ("goal-style-rhyme", "goal: style rhyme", PROMPT),
    ]
    assert known[0].qa == (("Who?", "A pirate."),) and known[0].planted
    for difference in differences:
        assert difference.mean.shape == (2, N_SLOTS, target.d_model)
        assert float(difference.mean[:, : EDGES + N_EDGE].norm(dim=-1).min()) > 0
        assert float(difference.mean[:, EDGES + N_EDGE :].abs().max()) == 0


def test_the_slots_under_a_prompt_are_those_of_the_same_tokens(target: Any) -> None:
    texts = ProbeTexts.of(target, LINES)
    under = texts.under("Be a pirate.", LINES, target)
    for plain, chat, positions, places in zip(texts.chats, under.chats, texts.positions, under.positions, strict=True):
        assert [plain.token_ids[position] for position in positions] == [chat.token_ids[place] for place in places]
        assert len(chat.token_ids) != len(plain.token_ids)


def test_prompts_are_measured_by_a_command_and_joined_with_organisms(
    target: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data" / "train"
    folder.mkdir(parents=True)
    records = [{"system": f"Be number {n}.", "stimulus_user": "Hi.", "label": f"persona-n-{n}"} for n in range(4)]
    (folder / "system.json").write_text(json.dumps(records), encoding="utf-8")
    monkeypatch.setattr("audit_lit.models.loading.load_target", lambda *_, **__: target)
    out = tmp_path / "x.safetensors"
    arguments = ["organisms", "prompts", "--data", str(tmp_path / "data"), "--layers", "2", "--out", str(out)]
    result = CliRunner().invoke(cli, [*arguments, "--limit", "3"])
    assert result.exit_code == 0, result.output
    library = Library.load(out)
    assert len(library.known) == 3 and library.differences[0].layers == (2,)
    with pytest.raises(ActivationError, match="hold an organism twice"):
        Library.joined([library, library])
    rest = list(prompted([row("a-b-c", "Be c.")], target, LINES, [1, 2]))
    other = Library((rest[0][0],), (rest[0][1],), target.name, target.fingerprint())
    joined = Library.joined([library, other])
    assert len(joined.known) == 4 and {difference.layers for difference in joined.differences} == {(2,)}
    torch.testing.assert_close(joined.differences[3].mean[0], rest[0][1].mean[1])
    first = Library.joined([other.where(lambda _: True)]).differences[0]
    assert first.layers == (1, 2)
