"""Decoders that bring a description of their own: loaded from a folder and from the Hub, against plain PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.decoder_files import edit_json
from helpers.fake_hub import FakeHub
from helpers.published import (
    DIALOG,
    MARKER,
    ao_config,
    describe,
    last_residual,
    marker_target,
    nla_meta,
    save_lora,
    save_whole,
)
from safetensors.torch import load_file, save_file

from audit_lit import Auditor, Decoder
from audit_lit.chat.vocabulary import DESCRIPTION_QUESTION
from audit_lit.decoder.formats import read_description
from audit_lit.errors import DecoderConfigError, DecoderMismatch, HubError, OutputError, QuestionError, ScanError

ANSWER = "A pirate"
USER, ASSISTANT = "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"
NLA = f"{USER}Here is the vector:\n<concept>{MARKER}</concept>\nExplain.{ASSISTANT}"
LENS = (
    f"{USER}An activation vector from layer 1 of a language model is enclosed in activation tags:\n<activation>{MARKER}"
    "</activation>. Produce distinct concepts that encode this activation, each as\na '- ' bullet on its own line."
    f"{ASSISTANT}"
)
EXPLAINED = f"<explanation>\n{ANSWER}\n</explanation>"
WRITES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "embed 150": lambda _, vector: 150 * vector / vector.norm(),
    "embed 3": lambda _, vector: 3 * vector / vector.norm(),
    "add": lambda resid, vector: resid + resid.norm() * vector / vector.norm(),
    "add 2": lambda resid, vector: resid + 2 * resid.norm() * vector / vector.norm(),
}
CASES = {  # kind of weights, description, prompt, block whose output is written (-1: the embedding), formula, answer
    "ao": ("lora", "ao_config.json", f"{USER}Layer: 2\n ? \nWho?{ASSISTANT}", 1, "add", ANSWER),
    "ao, steered": ("lora", "ao_config.json", f"{USER}Layer: 2\n ? \nWho?{ASSISTANT}", 1, "add 2", ANSWER),
    "nla": ("whole", "nla_meta.yaml", NLA, -1, "embed 150", EXPLAINED),
    "easynla": ("lora", "nla_meta.yaml", NLA, 1, "add", EXPLAINED),
    "interp-engine": ("lora", "run.json", LENS, -1, "embed 3", ANSWER),
}
LAYERS = {"interp-engine": 1}
"""The read layer, where it is not 2."""


@pytest.fixture(scope="module")
def target() -> Any:
    return marker_target()


def description(case: str, target: Any) -> Any:
    if case.startswith("ao"):
        return ao_config(steering_coefficient=2.0 if case == "ao, steered" else 1.0)
    if case == "interp-engine":
        return {"config": {"alpha": 3.0, "layers": [1, 2], "transform": "unit", "extra": {"prompt": "concepts_raw"}}}
    if case == "nla":
        return nla_meta(target.tokenizer)
    return nla_meta(target.tokenizer, kind="nla_dataset", extraction={"layer_index": 2, "norm": "none"})


def build(case: str, folder: Path, target: Any) -> Path:
    kind, name, *_ = CASES[case]
    save_lora(folder, target) if kind == "lora" else save_whole(folder)
    describe(folder, name, description(case, target))
    return folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    with FakeHub() as server:
        server.connect(monkeypatch, tmp_path / "cache")
        yield server


@torch.no_grad()
def by_hand(decoder: Any, case: str, target: Any) -> torch.Tensor:
    """The log-probabilities of the answer's tokens, with the slot written between the blocks of a plain model."""
    _, _, prompt, block, formula, answer = CASES[case]
    tokenizer, model = target.tokenizer, decoder.model
    model = model.get_base_model() if hasattr(model, "get_base_model") else model
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    labels = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    slot = ids.index(tokenizer(MARKER if MARKER in prompt else " ?", add_special_tokens=False)["input_ids"][0])
    resid = model.model.embed_tokens(torch.tensor([ids + labels]))
    places = torch.arange(resid.shape[1])[None]
    rotary = model.model.rotary_emb(resid, places)
    causal = torch.full((resid.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    vector = last_residual(target, LAYERS.get(case, 2))
    for index, layer in enumerate([None, *model.model.layers], -1):
        if layer is not None:
            resid = layer(resid, attention_mask=causal, position_ids=places, position_embeddings=rotary)
        if index == block:
            resid = resid.clone()
            resid[0, slot] = WRITES[formula](resid[0, slot], vector)
    nats = model.lm_head(model.model.norm(resid))[0].log_softmax(-1)[len(ids) - 1 : -1]
    return nats.gather(1, torch.tensor(labels)[:, None])[:, 0]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("where", ["folder", "Hub"])
def test_what_a_described_decoder_computes_equals_plain_pytorch(
    case: str, where: str, target: Any, tmp_path: Path, hub: FakeHub
) -> None:
    folder = build(case, tmp_path / "decoder", target)
    if where == "Hub":
        hub.add("org/decoder", folder)
    decoder = Decoder.from_pretrained("org/decoder" if where == "Hub" else str(folder), target=target)
    assert bool(hub.requests) == (where == "Hub")
    auditor = Auditor(target, decoder)
    reveal = "user" if decoder.config.positions == "last" else "last:1"
    activations = auditor.read(DIALOG, reveal=reveal).activations
    question = "Who?" if decoder.config.takes_question else DESCRIPTION_QUESTION
    (scores,) = auditor.decoder.logprob(activations, [question], [ANSWER])
    torch.testing.assert_close(scores, by_hand(decoder, case, target), rtol=1e-4, atol=1e-4)
    answer = auditor.ask(DIALOG, question, reveal=reveal, samples=2, max_new_tokens=6)
    assert set(answer.controls) == {"no_activation", "null", "shuffled", "text_only"}
    assert len(answer.samples) == 2 and len(answer.positions) == 1


def test_a_whole_model_is_loaded_as_it_is_and_not_saved_again(target: Any, tmp_path: Path) -> None:
    folder = build("nla", tmp_path / "nla", target)
    decoder = Decoder.from_pretrained(str(folder), target=target)
    assert not hasattr(decoder.model, "peft_config") and decoder.longest(None) == 200 and decoder.longest(7) == 7
    with pytest.raises(OutputError, match="whole model"):
        decoder.save(tmp_path / "again")
    with pytest.raises(DecoderMismatch, match="has no base; got 'tiny'"):
        Decoder.from_pretrained(str(folder), target=target, base="tiny")


def test_a_decoder_that_describes_is_asked_nothing(target: Any, tmp_path: Path) -> None:
    auditor = Auditor(target, Decoder.from_pretrained(str(build("nla", tmp_path / "nla", target)), target=target))
    with pytest.raises(QuestionError, match=r"takes no question; got 'Who\?'.*leave the question out"):
        auditor.ask(DIALOG, "Who?")
    with pytest.raises(DecoderMismatch, match=r"one position at a time; got 3.*last:1"):
        auditor.ask(DIALOG, DESCRIPTION_QUESTION, reveal=[3, 4, 5])
    with pytest.raises(ScanError, match="takes no question"):
        auditor.scan([DIALOG])


def test_the_oracles_layers_are_one_of_several_or_all_together(target: Any, tmp_path: Path) -> None:
    folder = save_lora(tmp_path / "ao", target)
    describe(folder, "ao_config.json", ao_config())
    one = Decoder.from_pretrained(str(folder), target=target).config
    assert (one.layer_choice, one.read_layers) == ("one", (2, 1, 3))  # the nearest to the middle first
    assert (one.enable_thinking, one.reads_bos) == (False, True)  # as of every oracle
    describe(folder, "ao_config.json", ao_config(layer_combinations=[[25, 50]], act_layer_combinations=[[1, 2]]))
    config = Decoder.from_pretrained(str(folder), target=target).config
    assert (config.layer_choice, config.read_layers) == ("all", (1, 2))


def test_rank_stabilised_scaling_is_what_the_description_says(target: Any, tmp_path: Path) -> None:
    folder = save_lora(tmp_path / "ao", target, r=8, lora_alpha=16, use_rslora=True)
    describe(folder, "ao_config.json", ao_config(lora_r=8, lora_alpha=16, use_rslora=True))
    assert Decoder.from_pretrained(str(folder), target=target).config.lora_scaling == 16 / 8**0.5
    describe(folder, "ao_config.json", ao_config(lora_r=8, lora_alpha=16))
    with pytest.raises(DecoderMismatch, match=r"LoRA scaling is .* but ao_config\.json says 2\.0"):
        Decoder.from_pretrained(str(folder), target=target)


AO_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"schema_version": 2}, "schema_version is 2; expected at most 1.*upgrade audit-lit"),
    ({"prefix_template": "L{layer}: {special_token}"}, "prefix_template"),
    ({"prefix_template": "{depth}{special_token} * {num_positions}"}, "prefix_template"),
    ({"act_layer_combinations": [[1], [3], [2]]}, "are not the layers at"),
    ({"hook_onto_layer": None}, "hook_onto_layer: expected"),
    ({"special_token": 3}, "special_token: expected"),
    ({"steering_coefficient": 0}, "steering_coefficient: expected greater than 0"),
    (
        {"layer_combinations": [[25, 50], [75]], "act_layer_combinations": [[1, 2], [3]]},
        "one of several sets of layers",
    ),
    ({"injection": "replace"}, "unknown key 'injection'.*upgrade audit-lit"),
    ({"layer_combinations": [[50, 50]], "act_layer_combinations": [[2, 2]]}, "expected each once"),
    ({"layer_combinations": [[50], [50]], "act_layer_combinations": [[2], [2]]}, "expected each once"),
    ({"layer_combinations": [[10**400], [50], [75]]}, "layer_combinations.*expected less than"),
    ({"lora_r": 10**400}, "lora_r: expected less than"),
]
NLA_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"schema_version": 3}, "schema_version is 3; expected at most 2"),
    ({"kind": "other"}, "kind: expected"),
    ({"kind": "nla_dataset"}, "beside the weights of a model"),
    ({"role": "ar"}, "turns words into activations"),
    ({"role": "AR"}, "turns words into activations"),
    ({"role": "xyz"}, "role is 'xyz'; expected one of av, actor"),
    ({"extraction": {"layer_index": 2, "injection_scale": 150.0, "norm": "whitened"}}, "norm: expected 'none'"),
    ({"extraction": {"layer_index": 2, "injection_scale": 150.0, "transport": "j"}}, "key 'extraction.transport'"),
    ({"n_slots": 2}, "unknown key 'n_slots'"),
    ({"d_model": 64}, r"d_model is \[64\], but the weights have 32"),
    ({"extraction": {"layer_index": 2}}, "injection_scale None"),
    ({"extraction": {"injection_scale": 150.0}}, "names 0 read layers"),
    ({"extraction_layer_index": 3}, "names 2 read layers"),
    ({"prompt_templates": {"av": "no marker"}}, "prompt_templates has no"),
    ({"tokens": {}}, "tokens.injection_char: Field required"),
]
RUN_FAULTS: list[tuple[Any, str]] = [
    ({}, "config: Field required"),
    ({"config": {"alpha": 3.0, "layers": [1], "transform": "whitened"}}, "config.transform: expected 'unit'"),
    ({"config": {"alpha": 3.0, "layers": [1], "extra": {"prompt": "mine"}}}, "config.extra.prompt: expected"),
    ({"schema_version": 9, "config": {"alpha": 3.0, "layers": [1]}}, "schema_version is 9; expected at most 1"),
    ({"config": {"alpha": 3.0, "layers": [1], "layer_norm": "rms"}}, "unknown key 'config.layer_norm'"),
    ({"config": {"alpha": 3.0, "layers": [1], "extra": {"injection": "add"}}}, "key 'config.extra.injection'"),
    ({"config": {"alpha": 3.0, "layers": [2, 2]}}, "layers: expected each once"),
    ({"config": {"alpha": 3.0, "layers": []}}, "config.layers: "),
]


@pytest.mark.parametrize(
    ("case", "content", "words"),
    [
        *(("ao", ao_config(**changes), words) for changes, words in AO_FAULTS),
        *(("nla", changes, words) for changes, words in NLA_FAULTS),
        *(("interp-engine", content, words) for content, words in RUN_FAULTS),
        ("ao", [], "expected"),
        ("nla", "x", "expected"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_description_that_cannot_be_followed_is_refused(
    case: str, content: Any, words: str, target: Any, tmp_path: Path
) -> None:
    folder = build(case, tmp_path / "decoder", target)
    whole = nla_meta(target.tokenizer, **content) if case == "nla" and isinstance(content, dict) else content
    describe(folder, CASES[case][1], whole)
    with pytest.raises(DecoderConfigError, match=words):
        Decoder.from_pretrained(str(folder), target=target)


def test_fields_that_only_describe_are_passed_over(target: Any, tmp_path: Path) -> None:
    run = description("interp-engine", target)
    run["config"] |= {"lr": 1e-4, "lora_alpha": 32, "max_grad_norm": 1.0, "base_model": "tiny"}
    meta = description("nla", target) | {"role": "AV", "stage": "rl", "training": {"lr": 1e-5}, "created_by": "me"}
    meta["extraction"] |= {"mse_scale": 60.0, "norm": "none", "base_model": "tiny"}
    contents = {"ao": ao_config(git_commit="0", fp8=False), "interp-engine": run | {"metrics": {}}, "nla": meta}
    for case, content in contents.items():
        folder = build(case, tmp_path / case, target)
        expected = read_description(folder / CASES[case][1], folder, "x")
        describe(folder, CASES[case][1], content)
        assert read_description(folder / CASES[case][1], folder, "x") == expected


@pytest.mark.parametrize("shape", [(32,), ()])
def test_tensors_without_a_width_are_refused(shape: tuple[int, ...], target: Any, tmp_path: Path) -> None:
    folder = build("ao", tmp_path / "ao", target)
    path = folder / "adapter_model.safetensors"
    tensors = {
        name: torch.ones(shape) if ".q_proj.lora_A" in name else value for name, value in load_file(path).items()
    }
    save_file(tensors, path)
    with pytest.raises(DecoderConfigError, match="do not tell the width"):
        Decoder.from_pretrained(str(folder), target=target)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("config", [5, {"a": 1}, [], b"x"])
def test_what_is_no_configuration_is_refused(config: Any, target: Any, tmp_path: Path) -> None:
    folder = build("ao", tmp_path / "ao", target)
    with pytest.raises(DecoderConfigError, match=r"got config=.*expected a DecoderConfig, or a file"):
        Decoder.from_pretrained(str(folder), target=target, config=config)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("subfolder", ["a\0", 5, Path("a")])
def test_what_is_the_name_of_no_subfolder_is_refused(subfolder: Any, target: Any, tmp_path: Path, hub: FakeHub) -> None:
    folder = build("ao", tmp_path / "ao", target)
    hub.add("org/decoder", folder)
    for name in (str(folder), "org/decoder"):
        with pytest.raises(HubError, match="got subfolder="):
            Decoder.from_pretrained(name, target=target, subfolder=subfolder)


def test_a_given_configuration_counts_where_the_decoders_own_cannot_be_followed(target: Any, tmp_path: Path) -> None:
    folder = build("ao", tmp_path / "ao", target)
    config = read_description(folder / "ao_config.json", folder, "x")
    describe(folder, "ao_config.json", ao_config(schema_version=2))
    assert Decoder.from_pretrained(str(folder), target=target, config=config).config == config


def test_a_marker_of_two_tokens_or_between_others_is_refused(target: Any, tmp_path: Path) -> None:
    folder = build("nla", tmp_path / "nla", target)
    tokens = nla_meta(target.tokenizer)["tokens"]
    faults = {
        "is not one token": {"injection_char": "\u3210"},
        "the slot and its neighbours are the tokens": {"injection_left_neighbor_id": 5},
        r"expected \[\d+, 7, \d+\]": {"injection_token_id": 7},
    }
    for words, changes in faults.items():
        describe(folder, "nla_meta.yaml", nla_meta(target.tokenizer, tokens=tokens | changes))
        with pytest.raises(DecoderConfigError, match=words):
            Decoder.from_pretrained(str(folder), target=target)


def test_a_lora_with_a_scale_is_left_open_and_the_caller_decides(target: Any, tmp_path: Path) -> None:
    folder = save_lora(tmp_path / "decoder", target)
    describe(folder, "nla_meta.yaml", nla_meta(target.tokenizer))
    with pytest.raises(DecoderConfigError, match="cannot be guessed"):
        Decoder.from_pretrained(str(folder), target=target)
    describe(folder.parent, "run.json", description("interp-engine", target))
    decoder = Decoder.from_pretrained(str(folder), target=target, config=folder.parent / "run.json")
    assert (decoder.config.write, decoder.config.placeholder) == ("embed", MARKER)


def test_a_given_configuration_must_not_contradict_the_decoders_own(target: Any, tmp_path: Path) -> None:
    folder = build("ao", tmp_path / "ao", target)
    own = Decoder.from_pretrained(str(folder), target=target).config
    given = own.changed(name="mine", max_new_tokens=9, licence="mit")
    assert Decoder.from_pretrained(str(folder), target=target, config=given).config == given
    with pytest.raises(DecoderConfigError, match=r"contradicts .*ao_config\.json: write_layer 2 instead of 1"):
        Decoder.from_pretrained(str(folder), target=target, config=own.changed(write_layer=2))
    own.changed(write_layer=2).save(folder)  # the decoder's own protocol.json comes before any other description
    assert Decoder.from_pretrained(str(folder), target=target).config.write_layer == 2


def test_in_a_subfolder_its_own_description_counts_and_else_the_one_beside_it(target: Any, tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_lora(tmp_path / name, target)
    describe(tmp_path, "ao_config.json", ao_config())
    describe(tmp_path / "b", "ao_config.json", ao_config(steering_coefficient=2.0))
    gains = [Decoder.from_pretrained(str(tmp_path), subfolder=name, target=target).config.gain for name in ("a", "b")]
    assert gains == [1.0, 2.0]


def test_of_decoders_in_subfolders_on_the_hub_one_is_fetched(target: Any, tmp_path: Path, hub: FakeHub) -> None:
    for name in ("read1", "read2"):
        save_lora(tmp_path / "all" / name, target)
        describe(tmp_path / "all" / name, "ao_config.json", ao_config())
    target.tokenizer.save_pretrained(tmp_path / "all")  # as CulTrace has it
    files = [path for path in (tmp_path / "all").rglob("*") if path.is_file()]
    hub.add("org/all", {path.relative_to(tmp_path / "all").as_posix(): path.read_bytes() for path in files})
    decoder = Decoder.from_pretrained("org/all", subfolder="read2", target=target)
    assert decoder.config.read_layers == (2, 1, 3)
    assert any(path.startswith("read2/") for path in hub.fetched()) and "tokenizer.json" in hub.fetched()
    assert not any(path.startswith("read1/") for path in hub.fetched())


CULTRACE = "copenlu/CulTrace-latentqa-decoder-gemma-3-4b-it"
EASY_NLA = "ceselder/qwen3.6-27b-nla-rl"


@pytest.mark.parametrize(
    ("name", "case", "base", "error", "command"),
    [
        (CULTRACE, None, None, DecoderConfigError, "--target google/gemma-3-4b-it --subfolder read15 --protocol FILE"),
        (EASY_NLA, "easynla", None, DecoderMismatch, "--base FOLDER/av_base, after: hf download .* 'av_base/\\*'"),
        (EASY_NLA, "easynla", "/authors/av_base", HubError, "--base FOLDER/av_base, after: hf download .* 'av_base/"),
        (
            "kitft/nla-qwen2.5-7b-L20-av",
            None,
            None,
            DecoderConfigError,
            "--target Qwen/Qwen2.5-7B-Instruct --protocol FILE",
        ),
    ],
)
def test_a_published_decoder_that_needs_more_says_which_command_loads_it(
    name: str, case: str | None, base: str | None, error: Any, command: str, target: Any, tmp_path: Path, hub: FakeHub
) -> None:
    inside = "a" if "kitft" not in name else ""
    folder = save_lora(tmp_path / "all" / inside, target)
    edit_json(folder / "adapter_config.json", base_model_name_or_path=base)
    if case:
        describe(folder, "nla_meta.yaml", description(case, target))
    files = {path.relative_to(tmp_path / "all").as_posix(): path.read_bytes() for path in folder.iterdir()}
    hub.add(name, files)
    with pytest.raises(error, match=f"audit-lit ask --decoder {name} .*{command}"):
        Decoder.from_pretrained(name, subfolder=inside or None, target=target)


@pytest.mark.parametrize("name", ["encoder.pt", "dit-adapter.pt", "export.json"])
def test_a_kind_of_decoder_that_cannot_be_loaded_is_named_before_it_is_fetched(
    name: str, target: Any, tmp_path: Path, hub: FakeHub
) -> None:
    folder = save_lora(tmp_path / "decoder", target)
    (folder / name).write_bytes(b"{}")
    hub.add("org/decoder", folder)
    for source in ("org/decoder", str(folder)):
        with pytest.raises(HubError, match=f"holds '{name}': .*save"):
            Decoder.from_pretrained(source, target=target)
    assert not hub.fetched()
