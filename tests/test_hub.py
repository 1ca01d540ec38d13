"""The Hugging Face Hub, played by a server on the loopback interface."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from helpers.fake_hub import FakeHub, closed_port
from huggingface_hub import close_session
from pytest_socket import SocketConnectBlockedError

from audit_lit import Decoder, DecoderConfig, HubError, load_target
from audit_lit.chat.positions import reveal_positions
from audit_lit.chat.rendering import render
from audit_lit.hub import resolve as find
from audit_lit.hub import within
from audit_lit.models.capture import capture_batch

NAME = "org/tiny-decoder"
OFFLINE = "huggingface_hub.constants.HF_HUB_OFFLINE"
PICKLE = b"\x80\x04cos\nsystem\n."
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 8, "README.md": b"A card."}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@pytest.fixture
def decoder_folder(make_decoder: Callable[..., Any], tmp_path: Path) -> Path:
    make_decoder(write="project").save(tmp_path / "decoder")
    return tmp_path / "decoder"


def resolve(name: str = NAME, revision: str | None = None) -> Path:
    return find(name, revision=revision, kind="decoder")


def fails(*expected: str, name: str = NAME, revision: str | None = None) -> None:
    with pytest.raises(HubError) as caught:
        resolve(name, revision)
    for words in (repr(name), *expected):
        assert words in str(caught.value)


def scores(decoder: Any, target: Any) -> tuple[list[str], list[float]]:
    rendered = render([{"role": "user", "content": "Who are you?"}], target.tokenizer)
    activations = capture_batch(target, [rendered], [reveal_positions(rendered)], decoder.config.read_layers)
    logprob = decoder.logprob(activations, ["What?"], ["A pirate."])
    return decoder.answer(activations, ["What?"], max_new_tokens=8), logprob[0].tolist()


def test_hub_decoder_answers_as_from_the_folder(
    hub: FakeHub, decoder_folder: Path, target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (decoder_folder / "adapter_model.bin").write_bytes(PICKLE)
    commit = hub.add(NAME, decoder_folder)
    expected = scores(Decoder.from_pretrained(str(decoder_folder), target=target), target)
    assert not hub.requests  # a folder needs no Hub

    assert scores(Decoder.from_pretrained(NAME, revision=commit, target=target), target) == expected
    n_requests = len(hub.requests)
    assert n_requests
    monkeypatch.setattr(OFFLINE, True)
    assert scores(Decoder.from_pretrained(NAME, revision=commit, target=target), target) == expected
    assert len(hub.requests) == n_requests


def test_commit_of_a_target_is_kept_and_pinned(hub: FakeHub, tiny_folder: Path, decoder_folder: Path) -> None:
    commit = hub.add("org/tiny-llama", tiny_folder)
    loaded = load_target("org/tiny-llama")
    assert (loaded.name, loaded.revision) == ("org/tiny-llama", commit)

    hub.add("org/tiny-llama", FILES)  # a newer one that does not load
    config = DecoderConfig.load(decoder_folder)
    changes = {"base": loaded.name, "target": loaded.name, "target_revision": commit}
    config.model_copy(update=changes).save(decoder_folder)
    assert Decoder.from_pretrained(str(decoder_folder)).model.config.hidden_size == config.d_model


def test_real_environment_variables(hub: FakeHub, decoder_folder: Path, tmp_path: Path) -> None:
    commit = hub.add(NAME, decoder_folder)
    script = (
        "import sys; from audit_lit.hub import resolve, commit_of;"
        f"folder = resolve({NAME!r}, revision=sys.argv[1] or None, kind='decoder');"
        "print(commit_of(folder), *sorted(path.name for path in folder.iterdir()))"
    )

    def run(revision: str, **env: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        settings = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1", **env}
        command = [sys.executable, "-c", script, revision]
        return subprocess.run(command, env=clean | settings, capture_output=True, text=True, check=False)

    online = run("")
    assert online.stdout.split() == [commit, *sorted(path.name for path in decoder_folder.iterdir())], online.stderr
    assert run(commit, HF_HUB_OFFLINE="1", HF_ENDPOINT="http://127.0.0.1:1").stdout == online.stdout
    other = run("0" * 40, HF_HUB_OFFLINE="1")
    assert "unset HF_HUB_OFFLINE" in other.stderr.splitlines()[-1]


def test_pinned_revision_gives_its_own_files(hub: FakeHub) -> None:
    old, new = hub.add(NAME, FILES), hub.add(NAME, {**FILES, "README.md": b"Another card."})
    assert (resolve(revision=old) / "README.md").read_bytes() == b"A card."
    assert (resolve() / "README.md").read_bytes() == b"Another card."
    assert (resolve(revision=old).name, resolve().name) == (old, new)


@pytest.mark.parametrize(
    ("about", "lie", "words"),
    [
        ("", {"sha": "../../" + "0" * 40}, "names '../../000"),
        ("", {"sha": None}, "names ''"),
        ("config.json", {"path": "../../../config.json"}, "names '../../../config.json'"),
        ("config.json", {"path": "/tmp/config.json"}, "names '/tmp/config.json'"),
        ("config.json", {"oid": "../../evil"}, "names '../../evil'"),
        ("model.safetensors", {"lfs": {"oid": "..", "size": 1, "pointerSize": 1}}, "names '..'"),
    ],
)
def test_names_that_lead_out_of_the_cache_are_refused(
    hub: FakeHub, tmp_path: Path, about: str, lie: dict[str, Any], words: str
) -> None:
    hub.add(NAME, FILES)
    hub.lies[about] = lie
    fails(words, "Nothing was fetched")
    assert not hub.fetched() and not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", FILES)
def test_a_header_that_names_a_path_writes_nothing_outside(hub: FakeHub, tmp_path: Path, name: str) -> None:
    """The file's header is what its name in the cache is taken from, whatever the list of files says."""
    hub.add(NAME, FILES)
    hub.etags[name] = "../../../../evil"
    with pytest.raises(HubError, match=r"names '\.\./\.\./\.\./\.\./evil'"):
        resolve()
    assert not list(tmp_path.rglob("*evil*"))


def test_weights_of_another_hash_are_refused(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    hub.lies["model.safetensors"] = {"lfs": {"oid": "0" * 64, "size": 1, "pointerSize": 1}}
    with pytest.raises(HubError, match=r"model.safetensors has SHA-256 \w+, but the Hub lists 0000.* fetch it again"):
        resolve()
    hub.lies.clear()
    folder = resolve()
    monkeypatch.setattr(OFFLINE, True)
    assert resolve() == folder
    (folder / "model.safetensors").resolve().write_bytes(b"other weights")
    with pytest.raises(HubError, match="has SHA-256"):
        resolve()


def test_a_link_out_of_the_cache_is_refused(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, FILES)
    folder = resolve()
    (tmp_path / "secret.json").write_text("{}")
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "secret.json")
    monkeypatch.setattr(OFFLINE, True)
    with pytest.raises(HubError, match="lies outside the cache's folder"):
        resolve()


def test_a_hub_that_never_answers_is_given_up(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import transfers as client

    hub.add(NAME, FILES)
    monkeypatch.setattr(client, "PATIENCE_S", 0.2)
    monkeypatch.setattr(client, "_fetch", lambda *_: Event().wait(20))
    fails("less than 1,048,576 bytes arrived in 0 seconds", "Check the network")


def test_a_slow_hub_is_waited_for(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from audit_lit import transfers as client

    hub.add(NAME, FILES)
    fetch, storage = client._fetch, tmp_path / "cache" / "models--org--tiny-decoder"

    def slowly(name: str, revision: str | None, wanted: Any) -> Any:
        storage.mkdir(parents=True)
        with (storage / "unfinished").open("wb", buffering=0) as file:
            for _ in range(5):
                file.write(bytes(2 * client.LEAST_BYTES))
                Event().wait(0.1)
        return fetch(name, revision, wanted)

    monkeypatch.setattr(client, "PATIENCE_S", 0.3)
    monkeypatch.setattr(client, "_fetch", slowly)
    assert (resolve() / "README.md").read_bytes() == b"A card."


def test_only_text_and_safetensors_are_requested(hub: FakeHub) -> None:
    bad = ("pytorch_model.bin", "adapter_model.bin", "args.pt", "state.pth", "x.pkl", "x.ckpt", "modeling.py", "x.so")
    hub.add(NAME, FILES | dict.fromkeys(bad, PICKLE))
    assert sorted(path.name for path in resolve().iterdir()) == sorted(FILES)
    assert set(hub.fetched()) == set(FILES)


def test_pickle_only(hub: FakeHub, tmp_path: Path) -> None:
    files = {"adapter_config.json": b"{}", "adapter_model.bin": PICKLE}
    hub.add(NAME, files)
    with pytest.raises(HubError, match=r"org/tiny-decoder holds its weights as a pickle.*adapter_model\.bin.*sandbox"):
        Decoder.from_pretrained(NAME)
    assert not hub.fetched()
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(HubError, match=r"adapter_model\.bin.*any code.*Convert it"):
        Decoder.from_pretrained(str(tmp_path))


NESTED = {
    **{f"read{layer}/{name}": f"{layer} {name}".encode() for layer in (0, 1) for name in ("a.json", "b.safetensors")},
    "tokenizer.json": b"{}",
    "nla_meta.yaml": b"x: 1",
    "model.safetensors": b"large",
    "run.py": b"",
}


def test_of_a_subfolder_no_other_is_fetched_and_beside_it_small_files_alone(hub: FakeHub) -> None:
    hub.add(NAME, NESTED)
    folder = within(find(NAME, subfolder="read1", kind="decoder"), "read1")
    assert (folder / "a.json").read_bytes() == b"1 a.json"
    fetched = {"read1/a.json", "read1/b.safetensors", "tokenizer.json", "nla_meta.yaml"}
    assert set(hub.fetched()) == fetched


@pytest.mark.parametrize("subfolder", ["..", "read1/../../x", "/etc", "read9", "read1/a.json", "a\\..\\b"])
def test_a_subfolder_that_is_outside_or_missing_is_refused(hub: FakeHub, tmp_path: Path, subfolder: str) -> None:
    for name, content in NESTED.items():
        (tmp_path / "decoder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "decoder" / name).write_bytes(content)
    with pytest.raises(HubError, match=r"outside|no subfolder"):
        within(tmp_path / "decoder", subfolder)
    hub.add(NAME, NESTED)
    with pytest.raises(HubError, match=r"outside|no subfolder"):
        find(NAME, subfolder=subfolder, kind="decoder")
    assert not hub.fetched()


def test_a_subfolder_that_is_a_link_to_elsewhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "decoder").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "decoder" / "read1").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HubError, match="lies outside"):
        within(tmp_path / "decoder", "read1")


def test_adapters_in_subfolders_alone_are_named_before_anything_is_fetched(hub: FakeHub) -> None:
    hub.add(NAME, {f"read{layer}/adapter_model.safetensors": b"x" for layer in range(5)} | {"tokenizer.json": b"{}"})
    fails("'read0', 'read1', 'read2', ...", "--subfolder")
    assert not hub.fetched()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("gated", ("is gated", "Accept its licence", "HF_TOKEN")),
        ("missing", ("is not on the Hub", "Check the spelling", "hf auth login")),
        ("bad_token", ("could not be fetched", "401", "check HF_TOKEN")),
        ("error", ("could not be fetched", "500", "Try again later", "pass a folder")),
    ],
)
def test_refusals_name_the_next_step(hub: FakeHub, fault: str, expected: tuple[str, ...]) -> None:
    commit = hub.add(NAME, FILES)
    hub.faults[NAME] = fault
    fails(*expected)
    fails(*expected, revision=commit)


def test_wrong_revision(hub: FakeHub) -> None:
    hub.add(NAME, FILES)
    for revision in ("v9", "0" * 40):
        fails("has no revision", revision, "Leave the revision out", revision=revision)


@pytest.mark.parametrize("cached", [False, True])
def test_no_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, cached: bool) -> None:
    hub.add(NAME, FILES)
    if cached:
        expected = resolve()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed_port()}")
    for _ in ("connection refused", "offline mode"):
        if cached:
            assert resolve() == expected
        else:
            fails("local cache", "check the network", "unset HF_HUB_OFFLINE", "pass a folder")
        monkeypatch.setattr(OFFLINE, True)


def test_proxy_that_refuses(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "https://hub.invalid")
    monkeypatch.setenv("HTTPS_PROXY", hub.url)  # it knows no CONNECT
    close_session()
    fails("could not be fetched: 501", "Try again", "pass a folder")
    close_session()


def test_interrupted_download_leaves_nothing_that_loads(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = hub.add(NAME, FILES)
    hub.cuts["model.safetensors"] = 100
    fails("could not be fetched", "Try again", revision=commit)
    with monkeypatch.context() as offline:
        offline.setattr(OFFLINE, True)
        fails("not complete", revision=commit)
    hub.cuts.clear()
    assert (resolve(revision=commit) / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["nonsense", "./org/name", "a/b/c", "/no/such/folder", "or--g/name", "org/na..me", ""])
def test_neither_folder_nor_hub_id(hub: FakeHub, name: str) -> None:
    fails("neither a folder here nor a Hub id", "org/name", "audit-lit decoders", name=name)
    assert not hub.requests


def test_revision_of_a_folder_is_refused(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path
    fails("has no revisions", "Leave the revision out", name=str(tmp_path), revision="v1")


def test_tests_reach_this_machine_alone() -> None:
    with pytest.warns(UserWarning), pytest.raises(SocketConnectBlockedError, match=r"192\.0\.2\.1"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
