"""Find the files of a decoder, a model or an edit: in a local folder, or on the Hugging Face Hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from audit_lit.errors import HubError
from audit_lit.files import is_folder

SAFE_FILES = ["*.json", "*.safetensors", "*.jinja", "*.md", "*.txt", "*.model"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def resolve(name: str, *, revision: str | None = None, kind: Literal["model", "decoder", "edit"]) -> Path:
    """Return a local folder with the files of a folder or a Hub id; only text and safetensors are fetched."""
    folder = Path(name)
    if name and is_folder(folder):
        if revision not in (None, commit_of(folder)):
            raise HubError(
                f"{kind} {name!r} is a folder here, which has no revisions; got revision {revision!r}. Leave the "
                "revision out, or give a Hub id that is not also a folder here."
            )
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith(("./", "../")):
        raise _unknown_name(name, kind)
    return _download(name, revision, kind)


def _unknown_name(name: str, kind: str) -> HubError:
    return HubError(
        f"{kind} {name!r} is neither a folder here nor a Hub id; expected an existing path, or 'org/name'. "
        "Run 'audit-lit decoders' for the names that ship with the package."
    )


def _download(name: str, revision: str | None, kind: str) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=SAFE_FILES))
    except errors.HFValidationError as err:
        raise _unknown_name(name, kind) from err
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
        if isinstance(err.__cause__, errors.HfHubHTTPError):
            raise _not_fetched(name, kind, err.__cause__) from err
        raise HubError(
            f"{kind} {name!r} is not complete in the local cache and the Hub cannot be reached (offline mode or no "
            "network). Unset HF_HUB_OFFLINE and check the network, or pass a folder that holds it."
        ) from err
    except Exception as err:  # the HTTP client's errors are not OSErrors, and the client may change
        raise _not_fetched(name, kind, err) from err


def _not_fetched(name: str, kind: str, err: BaseException) -> HubError:
    reason = (str(err).strip() or repr(err)).splitlines()[0]
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
        reason = (str(err).strip() or repr(err)).splitlines()[0]
        raise HubError(
            f"{repo_id!r} could not be uploaded: {reason}. Expected 'org/name' and a token that may write there: set "
            "HF_TOKEN or run 'hf auth login'."
        ) from err


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder of the Hub cache holds; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def refuse_pickles(folder: Path) -> None:
    """Raise ``HubError`` if a folder's weights come as pickles only."""
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles and not list(folder.glob("*.safetensors")):
        raise HubError(
            f"{folder} holds its weights as a pickle ({', '.join(pickles)}), which can run any code when loaded; "
            "expected safetensors. Convert it in a sandbox with safetensors.torch.save_file, or ask the author for it."
        )
