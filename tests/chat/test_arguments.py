"""One dialog and several are told from each other."""

from __future__ import annotations

from typing import Any

import pytest

from audit_lit.chat.arguments import many_dialogs, one_dialog, texts
from audit_lit.errors import DialogError, QuestionError

DIALOG = [{"role": "user", "content": "Hi"}]


def test_lists_tuples_and_generators_are_taken() -> None:
    for made in (DIALOG, tuple(DIALOG), (message for message in DIALOG)):
        assert list(one_dialog(made)) == DIALOG
    for made in ([DIALOG], (DIALOG,), (dialog for dialog in [DIALOG])):
        assert many_dialogs(made) == [DIALOG]


@pytest.mark.parametrize("dialog", [[DIALOG], [DIALOG, DIALOG], None, "Hi", DIALOG[0], 3])
def test_no_single_dialog(dialog: Any) -> None:
    with pytest.raises(DialogError, match=r"got .*expected (one dialog, )?a list of messages"):
        one_dialog(dialog)


@pytest.mark.parametrize("dialogs", [DIALOG, None, "Hi", 3, iter(DIALOG), {"messages": DIALOG}])
def test_no_list_of_dialogs(dialogs: Any) -> None:
    with pytest.raises(DialogError, match=r"got .*expected (\[dialog\]|a list of dialogs)"):
        many_dialogs(dialogs)


@pytest.mark.usefixtures("unchecked")
def test_where_they_are_passed(auditor: Any) -> None:
    with pytest.raises(DialogError, match="a list of 1 dialogs where one is meant"):
        auditor.ask([DIALOG], "What?")
    for call in (
        lambda: auditor.edit("Be glad.", DIALOG, method="gradient", steps=1),
        lambda: auditor.scan(DIALOG),
    ):
        with pytest.raises(DialogError, match="got one dialog where a list of dialogs is meant"):
            call()


def test_texts_are_taken_from_whatever_lists_them() -> None:
    for given in (["a", "b"], ("a", "b"), (text for text in "ab")):
        assert texts(given, "question", QuestionError) == ["a", "b"]


@pytest.mark.parametrize("given", ["ab", b"ab", None, 3, {"a": "b"}, [None], ["a", b"b"], [["a"]], ["\ud800"]])
def test_what_lists_no_texts_is_refused(given: Any) -> None:
    """A text is no list of its characters."""
    with pytest.raises(QuestionError, match=r"expected (a list of texts|text)"):
        texts(given, "question", QuestionError)
