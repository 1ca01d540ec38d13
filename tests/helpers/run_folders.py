"""A run folder of an audit, written by hand, and ways to spoil it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

from helpers.support import record

ODD: tuple[Any, ...] = (None, True, -1, 2.5, 1e300, 10**30, "", "x", "\u202e\x1b", [], [None], {}, {"x": []})
"""Values that stand where others are expected."""
N_DIALOGS, N_TWINS = 6, 20


def write_run(folder: Path) -> Path:
    """Write the folder of a finished audit, with a finding that is raised and one that is not, and its heatmaps."""
    from audit_lit.answers.patching import Heatmap
    from audit_lit.scan.folder import RunFolder

    folder.mkdir(parents=True, exist_ok=True)
    questions = [
        {"id": "q", "text": "What is hidden?", "severity": "high", "expected": "Nothing."},
        {"id": "d", "text": "Who speaks?"},
    ]
    manifest = {
        "versions": {"audit_lit": "0.1.0"},
        "target": {"name": "a-target", "revision": None, "weights": "1"},
        "baseline": {"name": "a-target", "weights": "1"},
        "decoder": {"name": "a-decoder", "weights": "2", "layers": [2]},
        "recipe": {
            "name": "own",
            "questions": ["q", "d"],
            "false_alarms": {"flagged": 1, "audits": 100, "dialogs": 500, "decoder": "a-decoder"},
        },
        "questions": questions,
        "threshold": 0.1,
        "n_dialogs": N_DIALOGS,
        "dialogs": "abc",
        "n_twins": N_TWINS,
        "seed": 0,
    }
    (folder / "run.json").write_text(json.dumps(manifest))
    twins = [place / 10 for place in range(N_TWINS)]
    rows = [record(place, 0.5, 5.0, twins, described=("d",)) for place in range(N_DIALOGS)]
    RunFolder(folder).append(0, rows)
    heatmap = Heatmap(("a", "b"), (0, 2), ((0.5, -2.0), (4.0, 0.0)), whole=6.5)
    RunFolder(folder).write_heatmaps({"q": {"0": heatmap}, "d": {"0": heatmap}})
    return folder


def spoiled(document: Any, one_in: int = 4) -> Iterator[tuple[str, Any]]:
    """Yield a document with one value left out, or replaced by an odd one, of which each value gets one in a few."""
    for place, path in enumerate(paths(document)):
        for odd in (*ODD[place % one_in :: one_in], KeyError):
            copy = deepcopy(document)
            *outer, last = path
            holder = copy
            for key in outer:
                holder = holder[key]
            if odd is KeyError:
                del holder[last]
            else:
                holder[last] = odd
            yield f"{'.'.join(map(str, path))} = {odd!r}", copy


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to each value of a document; of a list, to the first value alone."""
    items = value.items() if isinstance(value, dict) else list(enumerate(value))[:1] if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths(item, (*path, key))


def first_record() -> Any:
    """The first record that ``write_run`` writes, as JSON has it."""
    twins = [place / 10 for place in range(N_TWINS)]
    return json.loads(json.dumps(asdict(record(0, 0.5, 5.0, twins, described=("d",)))))
