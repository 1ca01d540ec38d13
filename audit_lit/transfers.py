"""Transfers from the Hugging Face Hub into its cache, checked on the way, and to it; ``hub`` says what to fetch."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache
from pathlib import Path, PurePosixPath
from threading import Thread
from typing import Any, Literal

from audit_lit.errors import HubError, first_line
from audit_lit.files.reading import sha256_of

Kind = Literal["model", "decoder", "edit"]
KNOWN: dict[Kind, str] = {
    "model": "The default target is 'smollm2-135m'.",
    "decoder": "Run 'audit-lit decoders' for the names that ship with the package.",
    "edit": "Give the folder that 'audit-lit edit make --out' or ActivationEdit.save wrote.",
}
"""What names there are of each kind, for who gave another."""
SAFE_FILES = ["*.json", "*.safetensors", "*.jinja", "*.md", "*.txt", "*.model", "*.yaml"]
COMMIT = re.compile(r"[0-9a-f]{40}")
DIGEST = re.compile(r"[0-9a-f]{64}")
PATIENCE_S = 120.0
"""Seconds in which ``LEAST_BYTES`` must arrive, or else a download is given up."""
LEAST_BYTES = 2**20
Fetched = tuple[Path, dict[str, str]]
"""A folder, and the SHA-256 of its large files as the Hub lists them."""
Wanted = Callable[[list[str]], list[str]]
"""Returns patterns of the files to fetch, given the paths of all."""


def download(name: str, revision: str | None, kind: Kind, wanted: Wanted) -> Path:
    """Return the folder of the cache with the wanted files of a repository; raise ``HubError`` in words."""
    from huggingface_hub import errors

    try:
        folder, digests = _unless_it_stalls(lambda: _fetch(name, revision, wanted), name)
        _check_snapshot(folder, digests)
        return folder
    except HubError:
        raise
    except errors.HFValidationError as err:
        raise unknown_name(name, kind) from err
    except errors.GatedRepoError as err:  # subclasses RepositoryNotFoundError: first
        raise HubError(
            f"{kind} {name!r} is gated and your token has no access. Accept its licence on its Hub page, then set "
            "HF_TOKEN or run 'hf auth login'."
        ) from err
    except errors.RevisionNotFoundError as err:
        raise HubError(
            f"{kind} {name!r} has no revision {revision!r}; expected a commit, tag or branch of it. Leave the "
            "revision out for the newest, and pin the commit that it reports."
        ) from err
    except errors.RepositoryNotFoundError as err:
        raise HubError(
            f"{kind} {name!r} is not on the Hub, or is private. Check the spelling; for a private one set HF_TOKEN "
            "or run 'hf auth login'."
        ) from err
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as err:
        if isinstance(err.__cause__, errors.HfHubHTTPError) or "Proxy" in type(err.__cause__).__name__:
            raise _not_fetched(name, kind, err.__cause__) from err
        raise HubError(
            f"{kind} {name!r} is no folder here, and not complete in the local cache, and the Hub cannot be reached "
            "(offline mode or no network). Check the path; or unset HF_HUB_OFFLINE, check the network, or pass a "
            "folder that holds it."
        ) from err
    except Exception as err:  # the HTTP client's errors are not OSErrors, and the client may change
        raise _not_fetched(name, kind, err) from err


def _fetch(name: str, revision: str | None, wanted: Wanted) -> Fetched:
    """Fetch the wanted files of a repository; where the Hub cannot be reached, what is in the cache will do."""
    from huggingface_hub import HfApi, errors, snapshot_download
    from huggingface_hub.hf_api import RepoFile

    _check_headers()
    try:
        api = HfApi()
        commit = api.model_info(name, revision=revision, timeout=PATIENCE_S).sha or ""
        _check_names(name, [], [commit])
        files = [file for file in api.list_repo_tree(name, revision=commit, recursive=True) if type(file) is RepoFile]
    except (HubError, errors.HFValidationError, errors.RepositoryNotFoundError, errors.RevisionNotFoundError):
        raise
    except Exception as err:  # no network, or an answer that is none
        try:
            cached = snapshot_download(name, revision=revision, allow_patterns=SAFE_FILES, local_files_only=True)
        except errors.LocalEntryNotFoundError as missing:
            raise missing from err
        return Path(cached), {}
    digests = {file.path: file.lfs.sha256 for file in files if file.lfs}
    _check_names(name, [file.path for file in files], [*(file.blob_id for file in files), *digests.values()])
    patterns = wanted([file.path for file in files])
    return Path(snapshot_download(name, revision=revision, allow_patterns=patterns)), digests


@cache
def _check_headers() -> None:
    """Let huggingface_hub refuse odd hashes in a file's headers, too: it writes the file under the name they give."""
    from huggingface_hub import file_download

    ask = file_download.get_hf_file_metadata

    def checked(url: str, *args: Any, **settings: Any) -> Any:
        metadata = ask(url, *args, **settings)
        _check_names(url, [], [name for name in (metadata.commit_hash, metadata.etag) if name is not None])
        return metadata

    file_download.get_hf_file_metadata = checked


def _check_names(name: str, paths: list[str], digests: list[str]) -> None:
    """Refuse a repository whose names would be written to other places than the cache."""
    outside = [path for path in paths if is_outside(path)]
    odd = [digest for digest in digests if not (COMMIT.fullmatch(digest) or DIGEST.fullmatch(digest))]
    if outside or odd:
        raise HubError(
            f"the Hub's answer about {name!r} names {(outside or odd)[0]!r}; expected hashes, and files "
            "inside the repository. Nothing was fetched; check HF_ENDPOINT."
        )


def _check_snapshot(folder: Path, listed: dict[str, str]) -> None:
    """Refuse a fetched folder with files from elsewhere, or with weights of another SHA-256 than the one listed.

    In the cache, the name of a large file is its SHA-256, which will do where the Hub cannot be asked.
    """
    cached = folder.resolve().parent.parent
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        stored = path.resolve()
        if not COMMIT.fullmatch(folder.name) or cached not in stored.parents:
            raise HubError(f"{path} lies outside the cache's folder {cached}; delete that folder, and fetch it again.")
        expected = listed.get(path.relative_to(folder).as_posix(), stored.name if DIGEST.fullmatch(stored.name) else "")
        if expected and path.suffix == ".safetensors" and (got := sha256_of(path)) != expected:
            raise HubError(
                f"{path} has SHA-256 {got}, but the Hub lists {expected}: it is broken, or another file. Delete "
                f"{cached}, and fetch it again."
            )


def _unless_it_stalls(fetch: Callable[[], Fetched], name: str) -> Fetched:
    """Return what ``fetch`` returns; raise if next to nothing arrives for a while, whatever the server answers."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    outcome: Future[Fetched] = Future()
    storage, arrived = Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model"), 0

    def run() -> None:
        try:
            outcome.set_result(fetch())
        except BaseException as err:
            outcome.set_exception(err)

    Thread(target=run, daemon=True).start()  # which ends with the process, even if the server never answers
    while True:
        try:
            return outcome.result(timeout=PATIENCE_S)
        except TimeoutError:
            if outcome.done():
                raise
        before, arrived = arrived, sum(path.lstat().st_size for path in storage.rglob("*") if path.exists())
        if arrived - before < LEAST_BYTES:
            raise HubError(
                f"{name!r} could not be fetched: less than {LEAST_BYTES:,} bytes arrived in {PATIENCE_S:.0f} seconds. "
                "Check the network and HF_ENDPOINT, and try again: what is complete is kept."
            )


def _not_fetched(name: str, kind: str, err: BaseException) -> HubError:
    reason = first_line(err)
    return HubError(
        f"{kind} {name!r} could not be fetched: {reason}. Try again later; check HF_TOKEN and HF_ENDPOINT if they are "
        "set; or pass a folder that holds it."
    )


def upload(folder: Path, repo_id: str, *, private: bool = False) -> str:
    """Upload a folder to a Hub repository, which is made if it does not exist, and return the commit."""
    from huggingface_hub import HfApi

    try:
        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder, commit_message="Upload with audit-lit").oid)
    except Exception as err:  # the HTTP client's errors are not OSErrors
        reason = first_line(err)
        raise HubError(
            f"{repo_id!r} could not be uploaded: {reason}. Expected 'org/name' and a token that may write there: set "
            "HF_TOKEN or run 'hf auth login'."
        ) from err


def is_outside(path: str) -> bool:
    """Return whether a path of the Hub would lead out of the folder that it is in."""
    return PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts or "\\" in path


def unknown_name(name: object, kind: Kind) -> HubError:
    """Return the error about a name that is neither a folder nor a Hub id."""
    return HubError(
        f"{kind} {name!r:.300} is neither a folder here nor a Hub id; expected an existing path, or 'org/name'. "
        + KNOWN[kind]
    )
