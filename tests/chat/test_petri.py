"""Petri's transcripts: the target's view is replayed from the events."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from helpers.layouts import USER

from audit_lit.chat.formats import read_dialogs
from audit_lit.errors import DialogError


def read(document: Any) -> list[Any]:
    return list(read_dialogs(BytesIO(json.dumps(document).encode()), "file"))


SAY = {"operation": "add", "message": USER | {"id": "m1"}}
MORE = {"operation": "add", "message": {"role": "assistant", "content": "Ho."}}


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([SAY, MORE], ["Hi.", "Ho."]),
        ([SAY, MORE, {"operation": "rollback", "count": 1}], ["Hi."]),
        ([SAY, MORE, {"operation": "rollback", "to_id": "m1"}], ["Hi."]),
        ([SAY, {"operation": "reset", "new_messages": [MORE["message"]]}], ["Ho."]),
        ([SAY, {"operation": "reset", "new_messages": []}, SAY, MORE], ["Hi.", "Ho."]),
        ([SAY, {"operation": "rollback", "to_id": "m2"}], "event 3 changes the messages by 'rollback'"),
        ([SAY, {"operation": "rollback", "count": -1}], "event 3 changes the messages by 'rollback'"),
        ([{"operation": "add"}], "holds no messages of the target"),
    ],
)
def test_the_targets_view_of_a_petri_transcript_is_replayed(edits: list[Any], expected: Any) -> None:
    other = {"view": "auditor", "edit": {"operation": "add", "message": {"role": "user", "content": "Go on."}}}
    events = [other, *({"type": "transcript_event", "view": ["target", "combined"], "edit": edit} for edit in edits)]
    if isinstance(expected, list):
        assert [message["content"] for message in read({"events": events})[0].messages] == expected
        assert read({"metadata": {}, "target_messages": [USER], "messages": []})[0].messages == (USER,)
    else:
        with pytest.raises(DialogError, match=expected):
            read({"events": events})
