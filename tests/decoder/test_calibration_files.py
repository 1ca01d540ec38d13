"""Files of calibrations: the key, where they are kept, and those of another decoder or target."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.calibrations import record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit_lit.errors import CalibrationError

FIXED = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FIXED
@given(data=st.data())
def test_any_weight_that_answers_depend_on_changes_the_key(make_decoder: Any, data: Any) -> None:
    from audit_lit.decoder.calibration_files import decoder_key

    decoder = make_decoder(write="project")
    before = decoder_key(decoder)
    assert decoder_key(make_decoder(write="project")) == before
    learnt = [value for name, value in decoder.model.named_parameters() if "lora_" in name]
    learnt += list(decoder.write.state_dict().values())
    tensor = data.draw(st.sampled_from(learnt))
    place = data.draw(st.integers(0, tensor.numel() - 1))
    with torch.no_grad():
        tensor.view(-1)[place] += 1.0
    assert decoder_key(decoder) != before


@pytest.mark.parametrize(
    "changes",
    [
        {"write": "replace"},
        {"write_layer": 1},
        {"n_edge": 4},
        {"read_layers": (1,)},
        {"prompt": "{sections} {question}"},
    ],
)
def test_the_wire_format_changes_the_key_and_names_do_not(make_decoder: Any, changes: dict[str, Any]) -> None:
    from audit_lit.decoder.calibration_files import decoder_key

    key = decoder_key(make_decoder())
    assert decoder_key(make_decoder(**changes)) != key
    assert decoder_key(make_decoder(name="another", licence="mit", lift_threshold=0.5)) == key


def test_a_copy_in_bfloat16_has_the_same_key(make_decoder: Any) -> None:
    from audit_lit.decoder.calibration_files import decoder_key

    decoder = make_decoder()
    key = decoder_key(decoder)
    decoder.model = copy.deepcopy(decoder.model).to(torch.bfloat16)  # the target keeps its weights
    assert decoder_key(decoder) == key


def test_it_is_kept_in_the_cache_and_found_where_the_two_meet(make_decoder: Any, target: Any, cache: Path) -> None:
    from audit_lit import Auditor
    from audit_lit.decoder.calibration_files import store, stored_calibrations

    decoder = make_decoder()
    assert Auditor(target, decoder).session.calibration is None
    measured = record(decoder, target)
    store(measured, decoder)
    auditor = Auditor(target, make_decoder())
    assert auditor.session.calibration == measured and auditor.decoder.config.lift_threshold == 0.25
    assert auditor.session.full_decoder.config.lift_threshold is None
    assert stored_calibrations() == [measured] and len(list(cache.iterdir())) == 1
    assert Auditor(target, make_decoder(n_edge=5)).decoder.config.lift_threshold is None  # another one
    store(record(decoder, target, lift_threshold=0.5), decoder)
    assert [kept.lift_threshold for kept in stored_calibrations()] == [0.5]


def test_a_folder_of_ones_own_keeps_it(make_decoder: Any, target: Any, tmp_path: Path, cache: Path) -> None:
    from audit_lit import Auditor, Decoder
    from audit_lit.decoder.calibration_files import store, why_ignored

    folder = tmp_path / "decoder"
    make_decoder(lora_scaling=2.0).save(folder)
    decoder = Decoder.from_pretrained(str(folder), target=target)
    measured = record(decoder, target)
    store(measured, decoder)
    assert (folder / "calibration.json").is_file() and not cache.exists()
    loaded = Auditor(target, Decoder.from_pretrained(str(folder), target=target))
    assert loaded.session.calibration == measured and loaded.decoder.home == folder

    content = json.loads((folder / "calibration.json").read_text())
    content["calibrations"][0] |= {"decoder_key": "0" * 32, "decoder": "another"}
    (folder / "calibration.json").write_text(json.dumps(content))
    ignoring = Auditor(target, Decoder.from_pretrained(str(folder), target=target))
    assert ignoring.session.calibration is None and ignoring.decoder.config.lift_threshold is None
    assert "'another'" in str(why_ignored(ignoring.decoder)) and why_ignored(make_decoder()) is None
    store(measured, decoder)  # beside the other one
    assert len(json.loads((folder / "calibration.json").read_text())["calibrations"]) == 2


def test_a_folder_without_a_configuration_or_of_the_package_is_left_alone(
    make_decoder: Any, target: Any, tmp_path: Path, cache: Path
) -> None:
    from audit_lit.decoder.calibration_files import kept_in
    from audit_lit.decoder.folders import SHIPPED

    decoder = make_decoder()
    measured = record(decoder, target)
    for home in (tmp_path, SHIPPED["default"], None):
        decoder.home = home
        assert kept_in(measured, decoder).parent == cache


def test_one_of_another_decoder_or_target_is_refused(make_decoder: Any, target: Any) -> None:
    from audit_lit.answers.session import Session

    session = Session.of(target, make_decoder())
    fitting = record(session.decoder, target)
    assert session.with_calibration(fitting).decoder.config.lift_threshold == 0.25
    assert session.decoder.config.lift_threshold is None
    for other in ({"decoder_key": "0" * 32}, {"target_fingerprint": "0" * 16}):
        with pytest.raises(CalibrationError, match=r"the calibration is of 'tiny'.*audit-lit calibrate"):
            session.with_calibration(fitting.model_copy(update=other))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "could not be read"),
        ("[]", "no file of calibrations of format 1"),
        ('{"format": 2, "calibrations": []}', "no file of calibrations of format 1"),
        ('{"format": 1}', "calibrations"),
        ('{"format": 1, "calibrations": [{"lift_threshold": NaN}]}', "could not be read"),
        ('{"format": 1, "calibrations": [{"lift_threshold": 0.5}]}', "malformed"),
    ],
)
def test_a_broken_file_is_an_error_in_words(
    make_decoder: Any, target: Any, tmp_path: Path, content: str, problem: str
) -> None:
    from audit_lit.answers.session import Session

    decoder = make_decoder()
    decoder.home = tmp_path
    (tmp_path / "calibration.json").write_text(content)
    with pytest.raises(CalibrationError, match=problem):
        Session.of(target, decoder)


def test_a_decoder_of_several_layers_has_one_for_each(make_decoder: Any, target: Any, cache: Path) -> None:
    from audit_lit.answers.session import Session
    from audit_lit.decoder.calibration_files import store

    decoder = make_decoder(read_layers=(1, 2), layer_choice="one", section="L{layer}{slots}", lift_threshold=0.5)
    session = Session.of(target, decoder, 2)
    assert session.decoder.config.lift_threshold is None  # it was measured at the first layer
    store(record(session.decoder, target), session.decoder)
    assert Session.of(target, decoder, 2).decoder.config.lift_threshold == 0.25
    assert Session.of(target, decoder).decoder.config.lift_threshold == 0.5
    assert Session.of(target, decoder).for_layer(2).calibration is not None
