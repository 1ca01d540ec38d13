"""The dialogs that decoders are measured on."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
import torch


def test_repairing_deals_the_lines_out_anew(trained: Any) -> None:
    from audit_lit.evaluation.dialogs import hidden_dialogs

    rows = trained.with_prompt
    matched, repaired = (hidden_dialogs(rows, repaired=flag, seed=3) for flag in (False, True))
    assert matched == [row.messages for row in rows] and matched != repaired
    assert Counter(d[1]["content"] for d in matched) == Counter(d[1]["content"] for d in repaired)
    assert [d[0] for d in matched] == [d[0] for d in repaired]


@pytest.mark.parametrize("n", [2, 3, 20])
def test_a_derangement_leaves_nobody_its_own(n: int) -> None:
    from audit_lit.evaluation.dialogs import derangement

    for seed in range(20):
        others = derangement(n, seed)
        assert sorted(others) == list(range(n)) and all(other != index for index, other in enumerate(others))
        assert others == derangement(n, seed)


def test_twins_hide_nothing(trained: Any) -> None:
    from audit_lit.evaluation.dialogs import default_twin, neutral_twin

    user = trained.with_prompt[0].messages[1]
    dialog = ({"role": "system", "content": "word " * 30, "hidden": True}, user)
    lengths = [len(neutral_twin(dialog, random.Random(seed))[0]["content"].split()) for seed in range(20)]
    assert all(22 <= length <= 38 for length in lengths)
    assert default_twin(dialog) == (user,)
    assert neutral_twin(dialog, random.Random(0))[1:] == (user,)


def test_the_last_token_of_the_text_can_be_read_alone(trained: Any) -> None:
    from audit_lit.evaluation.dialogs import read_dialogs

    dialogs = [row.messages for row in trained.with_prompt[:2]]
    whole = read_dialogs(trained.target, trained.decoder.config, dialogs)
    mixed = read_dialogs(trained.target, trained.decoder.config, dialogs, [False, True])
    counts = mixed.mask.sum(1).tolist()
    assert counts == [int(whole.mask[0].sum()), 1] and counts[0] > 1
    torch.testing.assert_close(mixed.resid[0], whole.resid[0])
    (text,) = trained.target.tokenizer.batch_decode([[int(mixed.token_ids[1, 0])]])
    assert text == dialogs[1][1]["content"][-1]
