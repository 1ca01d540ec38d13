"""Several data folders at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.user_data import TEXT, write_users


def test_several_folders_are_one_split(tmp_path: Path) -> None:
    from audit_lit.data.splits import load_split, split_hash
    from audit_lit.errors import DataError
    from audit_lit.testing.tiny_data import write_tiny_data

    write_tiny_data(tmp_path / "data")
    (tmp_path / "more").mkdir()
    write_users(tmp_path / "more", [TEXT.format(n=n) for n in range(60)])
    alone, both = (
        load_split(folders, "train") for folders in ([tmp_path / "data"], [tmp_path / "data", tmp_path / "more"])
    )
    assert both[: len(alone)] == alone and len(both) > len(alone)
    hashes = {
        split_hash([tmp_path / name for name in names], "train") for names in (["data"], ["more"], ["data", "more"])
    }
    assert len(hashes) == 3
    with pytest.raises(DataError, match="LatentQA's layout"):
        load_split([tmp_path / "nothing"], "train")
