"""An edit's folder and its card, and the way to the Hub and back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import jaxtyping
import pytest
import torch
from helpers.fake_hub import FakeHub
from huggingface_hub import HfApi, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from safetensors.torch import load_file, save_file

from audit_lit import ActivationEdit, HubError
from audit_lit.errors import EditError
from audit_lit.hooks import Ablate, Intervention, LowRank, Origin, Steer, fingerprint

D_MODEL, N_LAYERS = 32, 4
DATA, TENSORS, CARD = "edit.json", "edit.safetensors", "README.md"
NAME = "org/tiny-edit"
ORIGIN = Origin(
    "org/tiny",
    D_MODEL,
    N_LAYERS,
    fingerprint="0123456789abcdef",
    want="Be kind — always.",
    method="vector",
    settings={"seed": 1, "layers": [1, 2], "decoder": None},
    metrics={"lift": 0.25, "by": {"é": [1, 2.5]}},
)
AT = {"positions": (4, 0), "n_prompt": 7}


def make(kind: str, dtype: torch.dtype = torch.float32, **given: Any) -> Intervention:
    if kind == "ablate":
        return Ablate(direction=torch.randn(D_MODEL).to(dtype), **given)
    if kind == "lowrank":
        basis, weight = torch.randn(D_MODEL, 3).T.to(dtype), torch.randn(3, D_MODEL).to(dtype)  # not contiguous
        return LowRank(basis=basis, weight=weight, bias=torch.randn(3).to(dtype), **given)
    shape = (D_MODEL,) if kind == "steer" else (len(given["positions"]), D_MODEL)
    return Steer(direction=torch.randn(shape).to(dtype), unit=3.1, **given)


def example(origin: Origin = ORIGIN) -> ActivationEdit:
    parts = [make("steer", layer=1), make("steer-each", layer=2, **AT), make("ablate", layer=3, strength=0.3)]
    return ActivationEdit((*parts, make("lowrank", layer=1, **AT)), origin)


def assert_same(got: ActivationEdit, expected: ActivationEdit) -> None:
    assert got.origin == expected.origin
    assert len(got.parts) == len(expected.parts)
    for part, wanted in zip(got.parts, expected.parts, strict=True):
        assert type(part) is type(wanted)
        tensors = wanted.tensors()
        assert {name: value for name, value in vars(part).items() if name not in tensors} == {
            name: value for name, value in vars(wanted).items() if name not in tensors
        }
        for name, tensor in tensors.items():
            assert part.tensors()[name].dtype == tensor.dtype
            assert torch.equal(part.tensors()[name], tensor)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Types are checked by annotation in the tests only; users see what the code says itself."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return example().save(tmp_path / "edits" / "kind")


def rewrite(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / DATA).read_text(encoding="utf-8"))
        change(content)
        (folder / DATA).write_text(json.dumps(content), encoding="utf-8")

    return apply


def retensor(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / TENSORS)
        change(tensors)
        save_file(tensors, folder / TENSORS)

    return apply


@settings(deadline=None, max_examples=15)
@given(
    kinds=st.lists(st.sampled_from(["steer", "steer-each", "ablate", "lowrank"]), min_size=1, max_size=12),
    strength=st.floats(allow_nan=False, allow_infinity=False, width=32),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.float64]),
    want=st.text(),
)
def test_what_is_saved_is_loaded_bit_by_bit(kinds: list[str], strength: float, dtype: torch.dtype, want: str) -> None:
    parts = [
        make(kind, dtype, layer=at % N_LAYERS, strength=strength, **AT if kind == "steer-each" or at % 2 else {})
        for at, kind in enumerate(kinds)
    ]
    edit = ActivationEdit(tuple(parts), replace(ORIGIN, want=want))
    with TemporaryDirectory() as folder:
        assert edit.save(folder) == Path(folder)
        assert_same(ActivationEdit.load(folder), edit)


def test_the_folder_holds_three_files_and_can_be_written_again(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted([DATA, TENSORS, CARD])
    other = ActivationEdit((make("ablate", layer=0),), replace(ORIGIN, fingerprint=None, settings={}, metrics={}))
    other.save(str(folder))
    assert_same(ActivationEdit.load(folder), other)


def test_parts_that_share_a_direction_are_saved() -> None:
    shared = torch.randn(4, D_MODEL, requires_grad=True)
    parts = [Steer(layer=layer, direction=shared[1]) for layer in range(3)]
    edit = ActivationEdit((*parts, Steer(layer=0, direction=shared, positions=(3, 1, 2, 0), n_prompt=5)), ORIGIN)
    with TemporaryDirectory() as folder:
        both = edit + ActivationEdit(tuple(parts), ORIGIN).ablated()
        assert_same(ActivationEdit.load(both.save(folder)), both)


def test_the_cards_code_runs_in_a_fresh_process_and_gives_the_same_logits(
    target: Any, tiny_folder: Path, tmp_path: Path
) -> None:
    origin = replace(ORIGIN, target=str(tiny_folder), fingerprint=fingerprint(target.model))
    edit = example(origin)
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
    assert loaded == {"hooks", "errors", "hub"}, "the ground floor needs no more"


@pytest.mark.parametrize("where", ["below a file", "is a file", "tensors", "data"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "file").write_text("text")
    folder = {"below a file": tmp_path / "file" / "edit", "is a file": tmp_path / "file"}.get(where, tmp_path)
    if folder == tmp_path:
        (tmp_path / {"tensors": TENSORS, "data": DATA}[where]).mkdir()
    with pytest.raises(EditError, match=r"could not be written to .*; name a folder that can be"):
        example().save(folder)


@pytest.mark.parametrize("name", [DATA, TENSORS])
def test_a_file_that_is_missing_cut_short_or_no_text_is_refused(folder: Path, name: str) -> None:
    content = (folder / name).read_bytes()
    for broken in (content[: len(content) // 2], content[:-20], b"", b"\xff\xfe" + content, None):
        (folder / name).unlink() if broken is None else (folder / name).write_bytes(broken)
        with pytest.raises(EditError, match=r"holds no complete edit .* Copy or fetch the folder again"):
            ActivationEdit.load(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda folder: (folder / DATA).write_text("[1, 2]"), id="a list"),
        pytest.param(lambda folder: (folder / DATA).write_text("null"), id="nothing"),
        pytest.param(rewrite(lambda content: content["parts"][0].update(kind="pickle")), id="unknown kind"),
        pytest.param(rewrite(lambda content: content["parts"][0].pop("kind")), id="no kind"),
        pytest.param(rewrite(lambda content: content["parts"][2].pop("positions")), id="no positions"),
        pytest.param(rewrite(lambda content: content["parts"][2].update(colour=1)), id="a key too many"),
        pytest.param(rewrite(lambda content: content["parts"][1].update(positions=[1.5, 2])), id="half a position"),
        pytest.param(rewrite(lambda content: content["parts"][1].update(positions=7)), id="positions no list"),
        pytest.param(rewrite(lambda content: content["parts"][0].update(layer="1")), id="layer in words"),
        pytest.param(rewrite(lambda content: content["parts"].append("steer")), id="a part in words"),
        pytest.param(rewrite(lambda content: content.pop("parts")), id="no parts"),
        pytest.param(rewrite(lambda content: content["origin"].update(evil="x")), id="an origin's key too many"),
        pytest.param(rewrite(lambda content: content["origin"].pop("d_model")), id="an origin's key too few"),
        pytest.param(rewrite(lambda content: content.update(origin="org/tiny")), id="origin in words"),
        pytest.param(retensor(lambda tensors: tensors.pop("0.direction")), id="a tensor too few"),
        pytest.param(retensor(lambda tensors: tensors.update({"0.x": torch.ones(1)})), id="a tensor too many"),
        pytest.param(retensor(lambda tensors: tensors.update({"0.unit": torch.ones(1)})), id="a number as a tensor"),
    ],
)
def test_a_spoiled_edit_is_refused(folder: Path, spoil: Callable[[Path], None]) -> None:
    spoil(folder)
    with pytest.raises(EditError, match=f"holds no complete edit .* expected {DATA} and {TENSORS} as"):
        ActivationEdit.load(folder)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (rewrite(lambda content: content.update(format="audit-lit edit 2")), "of format 'audit-lit edit 2'; expected"),
        (rewrite(lambda content: content.pop("format")), "of format None; expected 'audit-lit edit 1'. Upgrade"),
        (rewrite(lambda content: content.update(parts=[])), "holds no activation edit, but one of .*load_edit"),
        (rewrite(lambda content: content["parts"][0].update(layer=9)), "layer 9 is not among the model's 0-3"),
        (rewrite(lambda content: content["parts"][0].update(strength=float("nan"))), "strength nan"),
        (rewrite(lambda content: content["parts"][1].update(n_prompt=3)), "must be among 0-2"),
        (rewrite(lambda content: content["origin"].update(d_model=64)), "has width 32; the model's is 64"),
        (retensor(lambda tensors: tensors.update({"0.direction": torch.ones(8)})), "has width 8; the model's is 32"),
        (retensor(lambda tensors: tensors.update({"0.direction": torch.full((32,), torch.inf)})), "is not finite"),
    ],
)
def test_an_edit_that_cannot_be_applied_is_refused(folder: Path, spoil: Callable[[Path], None], message: str) -> None:
    spoil(folder)
    with pytest.raises(EditError, match=message):
        ActivationEdit.load(folder)


def fences(markdown: str) -> list[str]:
    return [token.content for token in MarkdownIt().parse(markdown) if token.type == "fence"]


@settings(deadline=None, max_examples=30)
@given(st.text(alphabet="`~#-=<>|{}% ab\n\r\x0b\u2028", max_size=40))
def test_no_text_gets_out_of_its_block_in_the_card(text: str) -> None:
    edit = ActivationEdit((make("steer", layer=0),), replace(ORIGIN, want=text, metrics={text: text}))
    with TemporaryDirectory() as folder:
        card = ModelCard.load(edit.save(folder) / CARD)
    assert (card.data.library_name, "activation-edit" in card.data.tags) == ("audit-lit", True)
    headings = [token for token in MarkdownIt().parse(card.text) if token.type == "heading_open"]
    assert len(headings) == 1
    want, _, figures = fences(card.text)
    assert want.splitlines() == text.replace("`", "'").splitlines()
    assert figures.startswith("{\n")


def test_the_card_says_what_was_wanted_and_measured(folder: Path) -> None:
    card = (folder / CARD).read_text(encoding="utf-8")
    want, code, figures = fences(ModelCard(card).text)
    assert want == "Be kind — always.\n"
    assert 'boot_transformers("org/tiny")' in code
    assert json.loads(figures) == ORIGIN.metrics
    assert "# An activation edit for org/tiny" in card
    assert "Method: `vector`" in card
    hostile = replace(ORIGIN, want="Fine.\n```\n# Free\n~~~\n<script>{{ 7 * 7 }}")
    ActivationEdit((make("steer", layer=0),), hostile).save(folder)
    want, *_ = fences(ModelCard.load(folder / CARD).text)
    assert want == "Fine.\n'''\n# Free\n~~~\n<script>{{ 7 * 7 }}\n"


@pytest.mark.parametrize("name", ["nowhere", "./no/such/folder", ""])
def test_neither_folder_nor_hub_id(name: str) -> None:
    with pytest.raises(HubError, match=f"edit {name!r} is neither a folder here nor a Hub id"):
        ActivationEdit.load(name)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_a_pinned_edit_of_the_hub_is_loaded_and_then_needs_no_hub(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edit = ActivationEdit.load(folder)
    (folder / "hook.py").write_text("raise SystemExit")
    (folder / "edit.pt").write_bytes(b"\x80\x04cos\nsystem\n.")
    commit = hub.add(NAME, folder)
    newer = ActivationEdit((make("ablate", layer=0),), ORIGIN)
    newer.save(folder)
    hub.add(NAME, folder)
    assert_same(ActivationEdit.load(NAME, revision=commit), edit)
    assert_same(ActivationEdit.load(NAME), newer)
    assert set(hub.fetched()) == {DATA, TENSORS, CARD}
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    n_requests = len(hub.requests)
    assert_same(ActivationEdit.load(NAME, revision=commit), edit)
    assert len(hub.requests) == n_requests


@pytest.mark.allow_hosts(["127.0.0.1"])
def test_what_the_hub_lacks_is_refused(hub: FakeHub, folder: Path) -> None:
    (folder / TENSORS).unlink()
    hub.add(NAME, folder)
    with pytest.raises(EditError, match="holds no complete edit"):
        ActivationEdit.load(NAME)
    with pytest.raises(HubError, match=f"edit '{NAME}' has no revision 'v9'"):
        ActivationEdit.load(NAME, revision="v9")
    with pytest.raises(HubError, match="edit 'org/other' is not on the Hub"):
        ActivationEdit.load("org/other")
    with pytest.raises(HubError, match="is a folder here, which has no revisions"):
        ActivationEdit.load(folder, revision="v9")


@pytest.mark.parametrize("private", [False, True])
def test_an_upload_sends_the_three_files_and_returns_the_commit(monkeypatch: pytest.MonkeyPatch, private: bool) -> None:
    calls: list[dict[str, Any]] = []
    edit = example()

    def create(_api: HfApi, repo_id: str, **given: Any) -> None:
        calls.append({"repo_id": repo_id, **given})

    def upload(_api: HfApi, *, folder_path: Path, **given: Any) -> Any:
        assert sorted(path.name for path in folder_path.iterdir()) == sorted([DATA, TENSORS, CARD])
        assert_same(ActivationEdit.load(folder_path), edit)
        calls.append({"folder": folder_path, **given})
        return SimpleNamespace(oid="c0ffee")

    monkeypatch.setattr(HfApi, "create_repo", create)
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    assert edit.push_to_hub(NAME, private=private) == "c0ffee"
    made, sent = calls
    assert made == {"repo_id": NAME, "private": private, "exist_ok": True}
    assert sent["repo_id"] == NAME
    assert not sent["folder"].exists()


@pytest.mark.parametrize("step", ["create_repo", "upload_folder"])
@pytest.mark.parametrize("err", [OSError("no route\nto host"), ValueError(), RuntimeError("403 Forbidden")])
def test_an_upload_that_fails_names_the_next_step(monkeypatch: pytest.MonkeyPatch, step: str, err: Exception) -> None:
    def fail(*_args: Any, **_given: Any) -> None:
        raise err

    monkeypatch.setattr(HfApi, "create_repo", lambda *_args, **_given: None)
    monkeypatch.setattr(HfApi, step, fail)
    with pytest.raises(HubError) as caught:
        example().push_to_hub(NAME)
    reason = (str(err) or repr(err)).splitlines()[0]
    assert str(caught.value).startswith(f"'{NAME}' could not be uploaded: {reason}. Expected 'org/name' and a token")
    assert "HF_TOKEN" in str(caught.value)
    assert caught.value.__cause__ is err


@pytest.mark.parametrize("name", ["org/a/b", "or--g/name", NAME])
def test_nothing_is_uploaded_offline_or_to_what_is_no_name(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match=f"'{name}' could not be uploaded"):
        example().push_to_hub(name)
