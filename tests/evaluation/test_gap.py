"""The gap: the loss with another dialog's activations, less that with the dialog's own."""

from __future__ import annotations

from typing import Any

import pytest


def test_gap_is_zero_for_equal_activations(target: Any, make_decoder: Any) -> None:
    from audit_lit.data.rows import Example
    from audit_lit.evaluation.gap import measure_gap

    dialog = ({"role": "system", "content": "Be x."}, {"role": "user", "content": "Hi"})
    same = [Example(dialog, "Who?", answer, "l") for answer in ("a", "b", "c")]
    gap = measure_gap(make_decoder(), target, same)
    assert gap.gap == pytest.approx(0.0, abs=1e-5) and gap.true != pytest.approx(gap.no_activation, abs=1e-4)


def test_gap_by_hand(target: Any, make_decoder: Any) -> None:
    from audit_lit.data.rows import Example
    from audit_lit.evaluation.dialogs import read_dialogs
    from audit_lit.evaluation.gap import measure_gap

    decoder, dialogs = make_decoder(), [({"role": "user", "content": text},) for text in ("Hi", "What?", "Hey you")]
    examples = [Example(dialog, "Who?", answer, "l") for dialog, answer in zip(dialogs, ("a", "b", "c"), strict=True)]
    read = [read_dialogs(target, decoder.config, [dialog]) for dialog in dialogs]

    def loss(index: int, given: int) -> float:
        return -float(decoder.logprob(read[given], ["Who?"], [examples[index].answer])[0].mean())

    gap = measure_gap(decoder, target, examples)
    assert gap.true == pytest.approx(sum(loss(index, index) for index in range(3)) / 3, abs=1e-4)
    assert gap.shuffled == pytest.approx(sum(loss(index, (index + 1) % 3) for index in range(3)) / 3, abs=1e-4)
    assert gap.gap == pytest.approx(gap.shuffled - gap.true, abs=1e-6) and gap.to_dict()["gap"] == gap.gap
    assert gap.interval[0] <= gap.gap <= gap.interval[1]


def test_dev_examples_are_re_paired(trained: Any) -> None:
    from audit_lit.evaluation.gap import dev_examples

    rows = trained.with_prompt
    for as_label in (True, False):
        examples = dev_examples(trained.rows, "Who?", as_label=as_label)
        expected = [row.label_words if as_label else row.instruction for row in rows]
        assert [example.answer for example in examples] == expected
        assert all(example.dialog[1] != row.messages[1] for example, row in zip(examples, rows, strict=True))
