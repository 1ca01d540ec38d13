"""Find a decoder's or model's files: a local folder, or the Hugging Face Hub through huggingface_hub."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from audit_lit.errors import HubError

SAFE_FILES = ["*.json", "*.safetensors", "*.jinja", "*.md", "*.txt", "*.model"]
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt")


def resolve(name: str, *, revision: str | None = None, kind: Literal["model", "decoder"]) -> Path:
    """Return a local folder with the files of ``name``; nothing but text and safetensors is fetched.

    Args:
        name: A folder, or a Hub id such as ``org/name``.
        revision: Commit, tag or branch; pin a commit for a result that can be repeated.
        kind: What is looked for, for the message.

    Raises:
        HubError: If it is not there, gated, offline, of another revision, or the network fails.
    """
    if Path(name).is_dir():
        return Path(name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name.startswith(("./", "../")):
        raise HubError(
            f"{kind} {name!r} is neither a folder here nor a Hub id; expected an existing path, or 'org/name'. "
            f"Run 'audit-lit decoders' for the names that need neither."
        )
    return _download(name, revision, kind)


def _download(name: str, revision: str | None, kind: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=SAFE_FILES))
    except GatedRepoError as err:  # subclasses RepositoryNotFoundError: first
        raise HubError(
            f"{kind} {name!r} is gated and your token has no access. Accept its licence on its Hub page, then set "
            "HF_TOKEN or run 'hf auth login'."
        ) from err
    except RevisionNotFoundError as err:
        raise HubError(
            f"{kind} {name!r} has no revision {revision!r}; expected a commit, tag or branch of it. Leave the "
            "revision out for the newest, and pin the commit that it reports."
        ) from err
    except RepositoryNotFoundError as err:
        raise HubError(
            f"{kind} {name!r} is not on the Hub, or is private. Check the spelling; for a private one set HF_TOKEN "
            "or run 'hf auth login'."
        ) from err
    except (OfflineModeIsEnabled, LocalEntryNotFoundError) as err:
        raise HubError(
            f"{kind} {name!r} is not in the local cache and the Hub cannot be reached (offline mode or no network). "
            "Unset HF_HUB_OFFLINE and check the network, or pass a folder that holds it."
        ) from err
    except (HfHubHTTPError, OSError) as err:
        raise HubError(f"{kind} {name!r} could not be fetched: {err}. Try again, or pass a folder.") from err


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder of the Hub cache holds, None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def refuse_pickles(folder: Path) -> None:
    """Raise if a folder's weights come as pickles only.

    Raises:
        HubError: If there are pickles and no safetensors.
    """
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles and not list(folder.glob("*.safetensors")):
        raise HubError(
            f"{folder} holds its weights as a pickle ({', '.join(pickles)}), which can run any code when loaded; "
            "expected safetensors. Convert it in a sandbox with safetensors.torch.save_file, or ask the author to."
        )
