"""Find the files of a decoder, a model or an edit: in a local folder, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from functools import partial
from glob import escape
from pathlib import Path, PurePosixPath

from audit_lit.errors import HubError
from audit_lit.files.reading import is_folder
from audit_lit.transfers import SAFE_FILES, Kind, download, is_outside, unknown_name

ADAPTER = "adapter_model.safetensors"
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def resolve(
    name: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    kind: Kind,
    files: Sequence[str] = SAFE_FILES,
    refused: Mapping[str, str] | None = None,
) -> Path:
    """Return a local folder with the files of a folder or a Hub id; only text and safetensors are fetched.

    Args:
        name: A folder or a Hub id.
        revision: Commit, tag or branch of a Hub id.
        subfolder: The only folder inside to fetch; of the files beside it, only the small ones are.
        kind: What messages call it.
        files: Patterns of what to fetch.
        refused: Names of files that a repository must not hold, each with the reason.
    """
    folder = local_folder(name, revision=revision, kind=kind)
    return folder or download(str(name), revision, kind, partial(_wanted, str(name), subfolder, files, refused or {}))


def local_folder(name: str | Path, *, revision: str | None = None, kind: Kind) -> Path | None:
    """Return the folder that a name is of; None for a Hub id, of which nothing is fetched.

    Raises:
        HubError: If it is neither, or a revision is named of a folder.
    """
    if not isinstance(name, str | Path):
        raise unknown_name(name, kind)
    if not isinstance(revision, str | None):
        raise HubError(f"got revision={revision!r:.80}; expected a commit, tag or branch as text, or None.")
    folder, name = Path(name), str(name)
    if name and is_folder(folder):
        if revision not in (None, commit_of(folder)):
            raise HubError(
                f"{kind} {name!r} is a folder here, which has no revisions; got revision {revision!r}. Leave the "
                "revision out, or give a Hub id that is not also a folder here."
            )
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith(("./", "../")):
        raise unknown_name(name, kind)
    return None


def within(folder: Path, subfolder: str | None) -> Path:
    """Return a folder inside another.

    Raises:
        HubError: If it is not there, or the path leads out of the folder.
    """
    if subfolder is not None:
        _require_path(subfolder)
    if not subfolder:
        return folder
    inside = folder / subfolder
    if is_outside(subfolder) or not inside.resolve().is_relative_to(folder.resolve()):
        raise HubError(f"subfolder {subfolder!r} lies outside {folder}; expected a path inside, such as 'read15'.")
    if not is_folder(inside):
        raise HubError(f"{folder} holds no subfolder {subfolder!r}; expected one of its folders. Check the spelling.")
    return inside


def _require_path(subfolder: object) -> None:
    """Raise ``HubError`` for what is the name of no folder."""
    if not isinstance(subfolder, str) or "\0" in subfolder:
        raise HubError(f"got subfolder={subfolder!r:.80}; expected a path inside, such as 'read15', as text.")


def _wanted(
    name: str, subfolder: str | None, files: Sequence[str], refused: Mapping[str, str], paths: list[str]
) -> list[str]:
    """Return the files of a repository to fetch, as patterns; raise if its weights are pickles or of a refused kind."""
    if not subfolder:
        refuse_pickles(name, [path for path in paths if "/" not in path], refused)
        _refuse_several(name, paths)
        return list(files)
    _require_path(subfolder)
    inside = [path for path in paths if path.startswith(subfolder.rstrip("/") + "/")]
    if not inside:
        raise HubError(f"{name!r} holds no subfolder {subfolder!r}; expected one of its folders. Check the spelling.")
    refuse_pickles(f"{name}/{subfolder}", [PurePosixPath(path).name for path in inside], refused)
    beside = [path for path in paths if "/" not in path and not path.endswith(".safetensors")]
    return [escape(path) for path in (*inside, *beside) if any(fnmatch(path, safe) for safe in files)]


def _refuse_several(name: str, paths: list[str]) -> None:
    """Raise ``HubError`` if a repository has adapters in subfolders, and no weights outside."""
    folders = [repr(str(path.parent)) for path in map(PurePosixPath, sorted(paths)) if path.name == ADAPTER]
    if folders and not any("/" not in path and path.endswith(".safetensors") for path in paths):
        some = ", ".join(folders[:3] + (["..."] if len(folders) > 3 else []))
        raise HubError(f"{name!r} holds its adapters in the folders {some}; name one (--subfolder, subfolder=).")


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder of the Hub cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def refuse_pickles(where: object, names: Iterable[str], refused: Mapping[str, str] | None = None) -> None:
    """Raise ``HubError`` if a folder's weights come as pickles only, or one of its files has a refused name."""
    names = sorted(names)
    for name in names:
        if refused and name in refused:
            raise HubError(f"{where} holds {name!r}: {refused[name]}")
    pickles = [name for name in names if name.endswith(PICKLES)]
    if pickles and not any(name.endswith(".safetensors") for name in names):
        raise HubError(
            f"{where} holds its weights as a pickle ({', '.join(pickles)}), which can run any code when loaded; "
            "expected safetensors. Convert it in a sandbox with safetensors.torch.save_file, or ask the author for it."
        )
