"""Dialogs that are refused."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from helpers.chat_templates import USER

from audit_lit.chat.messages import read_dialog
from audit_lit.errors import DialogError


@pytest.mark.parametrize(
    ("dialog", "error"),
    [
        ([], "the dialog is empty"),
        ("Hi", "the dialog is not a list of messages"),
        ({"role": "user", "content": "Hi"}, "the dialog is not a list of messages"),
        (["Hi"], "the dialog is not a list of messages"),
        ([USER, {"role": "tool", "content": "x"}], "answers no tool call"),
        ([{"content": "x"}], "message 0 has role None"),
        ([{"role": "user", "content": " \n"}], r"message 0 \(user\) has no text"),
        ([{"role": "user", "content": None}], r"message 0 \(user\) has no text"),
        ([{**USER, "hide": True}], r"unknown keys \['hide'\]"),
    ],
)
def test_a_malformed_dialog_is_refused(dialog: Any, error: str) -> None:
    with pytest.raises(DialogError, match=error):
        inspect.unwrap(read_dialog)(dialog)  # as users call it, without type checks
