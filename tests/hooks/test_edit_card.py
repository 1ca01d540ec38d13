"""An edit's card: what it says, and that its code runs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from helpers.saved_edits import CARD, ORIGIN, edit_of_every_kind, make_typed
from huggingface_hub import ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from safetensors.torch import load_file

from audit_lit import ActivationEdit
from audit_lit.hooks import fingerprint


def fences(markdown: str) -> list[str]:
    return [token.content for token in MarkdownIt().parse(markdown) if token.type == "fence"]


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="`~#-=<>|{}% ab\n\r\x0b\u2028", max_size=40))
def test_no_text_gets_out_of_its_block_in_the_card(text: str) -> None:
    edit = ActivationEdit((make_typed("steer", layer=0),), replace(ORIGIN, goal=text, metrics={text: text}))
    with TemporaryDirectory() as folder:
        card = ModelCard.load(edit.save(folder) / CARD)
    assert (card.data.library_name, "activation-edit" in card.data.tags) == ("audit-lit", True)
    headings = [token for token in MarkdownIt().parse(card.text) if token.type == "heading_open"]
    assert len(headings) == 1
    goal, _, figures = fences(card.text)
    assert goal.splitlines() == text.replace("`", "'").splitlines()
    assert figures.startswith("{\n")


def test_the_card_says_the_goal_and_what_was_measured(folder: Path) -> None:
    card = (folder / CARD).read_text(encoding="utf-8")
    goal, code, figures = fences(ModelCard(card).text)
    assert goal == "Be kind — always.\n"
    assert 'boot_transformers("org/tiny")' in code
    assert json.loads(figures) == ORIGIN.metrics
    assert "# An activation edit for org/tiny" in card
    assert "Method: `vector`" in card
    hostile = replace(ORIGIN, goal="Fine.\n```\n# Free\n~~~\n<script>{{ 7 * 7 }}")
    ActivationEdit((make_typed("steer", layer=0),), hostile).save(folder)
    goal, *_ = fences(ModelCard.load(folder / CARD).text)
    assert goal == "Fine.\n'''\n# Free\n~~~\n<script>{{ 7 * 7 }}\n"


def test_the_cards_code_runs_in_a_fresh_process_and_gives_the_same_logits(
    target: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    origin = replace(ORIGIN, target=str(tiny_folder), fingerprint=fingerprint(target.model))
    edit = edit_of_every_kind(origin)
    edit.save(tmp_path)
    code = next(block for block in fences(ModelCard.load(tmp_path / CARD).text) if "import" in block)
    script = code + (
        "import sys, torch\n"
        "from safetensors.torch import save_file\n"
        "with torch.no_grad(), edit.on(model):\n"
        "    save_file({'logits': model(torch.arange(3, 12)[None])}, 'logits.safetensors')\n"
        "print(*(name for name in sys.modules if name.startswith('audit_lit.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with torch.no_grad(), edit.on(target.model) as model:
        expected = model(torch.arange(3, 12)[None])
    torch.testing.assert_close(load_file(tmp_path / "logits.safetensors")["logits"], expected)
    loaded = {name.split(".")[1] for name in done.stdout.splitlines()[-1].split()}
    needed = {"hooks", "hub", "transfers", "display", "files", "errors", "settings"}
    assert loaded == needed, "the hooks need nothing else"
