"""A decoder's configuration: which positions it reads, what is refused in words, and its file."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from helpers.chat_templates import tokenizer_of
from hypothesis import given, settings
from hypothesis import strategies as st

from audit_lit import DecoderConfig
from audit_lit.chat.rendering import render
from audit_lit.decoder import formats
from audit_lit.decoder.config import CONFIG_FILE
from audit_lit.decoder.folders import SHIPPED
from audit_lit.decoder.wire_format import FILE_ORDER
from audit_lit.errors import DecoderConfigError
from audit_lit.training.recipe import TrainingWire

SIZE: dict[str, Any] = {"target": "t", "d_model": 8, "n_layers": 36}

PUBLISHED = [
    formats.lit_llama3("lit", target="t"),
    formats.activation_oracle("ao", **SIZE),
    formats.activation_oracle_multilayer("multi", **SIZE),
    formats.activation_oracle_v3("v3", **SIZE),
]
AO = PUBLISHED[1]

BAD: list[tuple[dict[str, Any], str]] = [
    ({"prompt": "{sections}"}, "must contain {question} exactly once"),
    ({"prompt": "{sections}{question}{question}"}, "must contain {question} exactly once"),
    ({"split_at_slots": True, "placeholder_separator": " "}, "must be '' with split_at_slots"),
    ({"first_position": -1}, "first_position: expected greater than or equal to 0, got -1"),
    ({"section": "Layer: {layer}"}, "must contain {slots} exactly once"),
    ({"write": "multiply"}, "write: expected 'replace', 'add', 'project' or 'embed', got 'multiply'"),
    ({"positions": "middle"}, "positions: expected 'all', 'edges' or 'last', got 'middle'"),
    ({"layer_choice": "any"}, "layer_choice: expected 'all' or 'one', got 'any'"),
    ({"reads": "txt"}, "reads: expected 'activations' or 'text', got 'txt'"),
    ({"read_layers": ()}, "read_layers: expected at least 1 item"),
    ({"read_layers": (36,)}, r"read_layers=\[36\] must name layers from 0 to 35"),
    ({"read_layers": (-1,)}, r"read_layers\.0: expected greater than or equal to 0, got -1"),
    ({"read_layers": 3}, "read_layers: expected a valid tuple, got 3"),
    ({"read_layers": (1.5,)}, r"read_layers\.0: expected a valid integer, got 1\.5"),
    ({"n_edge": 0}, "n_edge: expected greater than or equal to 1, got 0"),
    ({"write_layer": "0"}, "write_layer: expected a valid integer, got '0'"),
    ({"write_layer": -1}, "write_layer: expected greater than or equal to 0, got -1"),
    ({"write_layer": None}, "write_layer: expected a valid integer, got None"),
    ({"placeholder": ""}, "placeholder: expected at least 1 character, got ''"),
    ({"prompt": ""}, "prompt: expected at least 1 character, got ''"),
    ({"name": ""}, "name: expected at least 1 character, got ''"),
    ({"chat": 1}, "chat: expected a valid boolean, got 1"),
    ({"d_model": True}, "d_model: expected a valid integer, got True"),
    ({"lift_threshold": math.nan}, "lift_threshold: expected a finite number, got nan"),
    ({"lift_threshold": "0.1"}, "lift_threshold: expected a valid number, got '0.1'"),
    ({"choice_scale": math.inf}, "choice_scale: expected a finite number, got inf"),
    ({"claim_scale": (1.0, -math.inf)}, r"claim_scale\.1: expected a finite number, got -inf"),
    ({"claim_scale": (1.0,)}, r"claim_scale\.1: Field required"),
    ({"n_reference": -1}, "n_reference: expected greater than or equal to 0, got -1"),
    ({"write_layr": 1}, r"unknown key 'write_layr', did you mean 'write_layer'\?"),
    ({"read_layer": [1]}, r"unknown key 'read_layer', did you mean 'read_layers'\?"),
    ({"gain": 0.0}, "gain: expected greater than 0, got 0.0"),
    ({"gain": math.inf}, "gain: expected a finite number, got inf"),
    ({"top_p": 1.5}, "top_p: expected less than or equal to 1, got 1.5"),
    ({"slot_tokens": (1, 2)}, r"slot_tokens\.2: Field required"),
    ({"answer_template": "x"}, "must contain {answer} exactly once"),
    ({"takes_question": False}, "must not contain {question}, since takes_question is false"),
    ({"write": "embed"}, "write_layer=1 must be 0, since 'embed' writes to the input of block 0"),
    ({"zzz": 1}, "unknown key 'zzz'; expected some of .*write_layer"),
]


@pytest.mark.parametrize(("changes", "words"), BAD, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_wrong_field_is_refused_in_words(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(DecoderConfigError, match=words):
        DecoderConfig(**{**dict(AO), **changes})
    write_file(tmp_path, {**AO.to_dict(), **changes})
    with pytest.raises(DecoderConfigError, match=rf"protocol\.json: malformed .* \(.*{words}"):
        DecoderConfig.load(tmp_path)


def write_file(folder: Path, fields: dict[str, Any], version: object = 1) -> None:
    (folder / CONFIG_FILE).write_text(json.dumps({"format": version, **fields}))


REQUIRED = ["name", "target", "d_model", "n_layers", "read_layers", "prompt", "section", "placeholder", "write"]


@pytest.mark.parametrize("field", [*REQUIRED, "write_layer"])
def test_a_missing_field_is_refused_by_name(tmp_path: Path, field: str) -> None:
    fields = {name: value for name, value in AO.to_dict().items() if name != field}
    with pytest.raises(DecoderConfigError, match=rf"\({field}: Field required\)\. Correct it\.$"):
        DecoderConfig(**fields)
    write_file(tmp_path, fields)
    with pytest.raises(
        DecoderConfigError, match=rf"protocol\.json: malformed .* \({field}: Field required\)\. Correct it"
    ):
        DecoderConfig.load(tmp_path)


def test_changed_fields_are_checked_like_those_of_a_new_configuration() -> None:
    changed = AO.changed(lift_threshold=0.25, read_layers=(3,))
    assert changed == DecoderConfig(**{**AO.to_dict(), "lift_threshold": 0.25, "read_layers": (3,)})
    assert AO.lift_threshold is None
    for fields in ({"lift_threshold": math.nan}, {"claim_scale": (math.inf, 0.0)}, {"read_layers": (36,)}, {"x": 1}):
        with pytest.raises(DecoderConfigError, match=next(iter(fields))):
            AO.changed(**fields)


def test_no_field_is_suggested_for_a_name_like_none() -> None:
    with pytest.raises(DecoderConfigError) as caught:
        DecoderConfig(**dict(AO), zzz=1)
    assert "did you mean" not in str(caught.value)


def test_several_wrong_fields_are_named_together() -> None:
    with pytest.raises(DecoderConfigError, match=r"write_layer: .*; chat: .*; reads: "):
        DecoderConfig(**{**dict(AO), "write_layer": -1, "chat": "yes", "reads": "txt"})


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"format": 2}', '{"name": "x"}', b"\xff"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: str | bytes) -> None:
    (tmp_path / CONFIG_FILE).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DecoderConfigError, match=r"protocol\.json (could not be read|is not of format 1)"):
        DecoderConfig.load(tmp_path)


@pytest.mark.parametrize(
    ("n_edge", "reveal", "expected"),
    [
        (3, "user", ["<|im_start|>", "u", "s", "!", "n", "t", "\n"]),
        (1, "user", ["<|im_start|>", "!", "\n"]),
        (99, "assistant", ["<|im_start|>", *"assistant\nOk", "<|im_end|>", "\n"]),
        (2, "assistant", ["<|im_start|>", "a", "k", "<|im_end|>", "\n"]),
        (1, "last:4", ["a", "\n"]),
        (1, [-1, -2, -3, -4], ["a", "n", "t", "\n"]),
    ],
)
def test_edges_are_the_first_and_last_tokens_and_the_last_of_the_text(n_edge: int, reveal: Any, expected: Any) -> None:
    tokenizer = tokenizer_of("chatml")
    turns = [("user", "Hi"), ("assistant", "Ok"), ("user", "Who are you!")]
    rendered = render([{"role": role, "content": content} for role, content in turns], tokenizer)
    places = AO.model_copy(update={"positions": "edges", "n_edge": n_edge}).select(rendered, reveal)
    assert list(places) == sorted(set(places))
    assert [tokenizer.decode([rendered.token_ids[at]]) for at in places] == expected


SHIPPED_FOLDERS = [folder for root in SHIPPED.values() for folder in (root, root / "rival")]


@pytest.mark.parametrize("folder", SHIPPED_FOLDERS, ids=lambda folder: folder.name)
def test_a_shipped_file_of_format_1_is_saved_back_byte_for_byte(tmp_path: Path, folder: Path) -> None:
    DecoderConfig.load(folder).save(tmp_path)
    assert (tmp_path / CONFIG_FILE).read_bytes() == (folder / CONFIG_FILE).read_bytes()


@pytest.mark.parametrize("config", PUBLISHED, ids=lambda config: config.name)
def test_a_published_configuration_survives_its_file(tmp_path: Path, config: DecoderConfig) -> None:
    config.save(tmp_path)
    assert DecoderConfig.load(tmp_path) == config


TEXTS = st.text(min_size=1, max_size=12)
NUMBERS = st.none() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.none() | st.text(max_size=12)


@st.composite
def configs(draw: st.DrawFn) -> DecoderConfig:
    """Draw a configuration with a value of every field."""
    n_layers = draw(st.integers(1, 80))
    free = st.text(st.characters(exclude_characters="{}", codec="utf-8"), max_size=12)
    return DecoderConfig(
        n_layers=n_layers,
        read_layers=tuple(draw(st.lists(st.integers(0, n_layers - 1), min_size=1, max_size=4, unique=True))),
        prompt=draw(free) + "{sections}" + draw(free) + "{question}" + draw(free),
        section=draw(free) + "{slots}" + draw(free),
        write=draw(st.sampled_from(["replace", "add", "project"])),
        layer_choice=draw(st.sampled_from(["all", "one"])),
        positions=draw(st.sampled_from(["all", "edges", "last"])),
        gain=draw(st.just(1.0) | st.floats(1e-3, 1e6)),
        slot_tokens=draw(st.none() | st.tuples(*[st.integers(0, 999)] * 3)),
        answer_template=draw(st.just("{answer}") | free.map("<a>{{answer}}{}".format)),
        max_new_tokens=draw(st.none() | st.integers(1, 999)),
        top_p=draw(st.just(1.0) | st.floats(0.01, 1)),
        top_k=draw(st.just(0) | st.integers(1, 999)),
        reads=draw(st.sampled_from(["activations", "text"])),
        claim_scale=draw(st.none() | st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2)),
        answer_end=draw(st.none() | TEXTS),
        **{name: draw(TEXTS) for name in ("name", "target", "placeholder")},
        **{name: draw(st.integers(1, 9999)) for name in ("d_model", "n_edge")},
        **{name: draw(st.integers(0, 9999)) for name in ("write_layer", "n_reference", "examples")},
        **{name: draw(st.booleans()) for name in ("chat", "shift_positions", "reads_bos")},
        enable_thinking=draw(st.none() | st.booleans()),
        first_position=draw(st.none() | st.integers(0, 9)),
        **{name: draw(st.text(max_size=4)) for name in ("section_separator", "placeholder_separator")},
        **{name: draw(NUMBERS) for name in ("choice_scale", "lift_threshold", "lora_scaling")},
        **{name: draw(NAMES) for name in ("base", "base_fingerprint", "target_revision", "target_fingerprint")},
        **{name: draw(NAMES) for name in ("training_data", "licence")},
    )


@settings(deadline=None, max_examples=60)
@given(config=configs())
def test_any_configuration_survives_its_file(config: DecoderConfig) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        config.save(folder)
        first, loaded = (folder / CONFIG_FILE).read_bytes(), DecoderConfig.load(folder)
        loaded.save(folder)
        assert loaded == config
        assert (folder / CONFIG_FILE).read_bytes() == first
        later = [name for name in json.loads(first) if name not in ("format", *FILE_ORDER)]
        assert list(json.loads(first)) == ["format", *FILE_ORDER, *sorted(later)]
        assert all(getattr(config, name) != DecoderConfig.model_fields[name].default for name in later)


def test_the_file_of_a_first_format_holds_its_fields_once() -> None:
    plain = AO.changed(enable_thinking=None, reads_bos=False)
    assert tuple(plain.to_dict()) == tuple(plain.changed().to_dict()) == FILE_ORDER
    assert list(plain.changed(gain=2.0).to_dict()) == [*FILE_ORDER, "gain"]
    assert len(set(FILE_ORDER)) == len(FILE_ORDER) and set(FILE_ORDER) < set(DecoderConfig.model_fields)
    wire = TrainingWire(read_layers=(1,), prompt="{sections}{question}")
    assert set(wire.model_dump()) < set(FILE_ORDER)  # a training run knows its folder by what this says
    assert TrainingWire(**wire.model_dump(), first_position=1).model_dump()["first_position"] == 1


def test_the_hash_of_the_shipped_decoder_is_the_one_that_run_folders_recorded() -> None:
    content = json.dumps(DecoderConfig.load(SHIPPED["default"]).to_dict())
    assert hashlib.sha256(content.encode()).hexdigest()[:16] == "52e1b85385171761"


def test_a_decoder_with_one_slot_reads_the_last_revealed_position() -> None:
    rendered = render([{"role": "user", "content": "Hi"}], tokenizer_of("chatml"))
    everything = AO.select(rendered, "last:3")
    assert AO.changed(positions="last").select(rendered, "last:3") == everything[-1:]
    assert AO.changed(positions="last").select(rendered, everything[:2]) == everything[:2]
