"""A decoder's folder: where it is, and which configuration belongs to it. Its weights are read by ``files``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audit_lit import hub
from audit_lit.decoder.config import CONFIG_FILE, DecoderConfig
from audit_lit.decoder.formats import DESCRIPTIONS, PUBLISHED, interp_engine, read_description
from audit_lit.decoder.formats.published import REFUSED, how_to_load, published_config
from audit_lit.decoder.wire_format import WireFormat
from audit_lit.errors import DecoderConfigError, HubError
from audit_lit.models.adapters import SETTINGS, WEIGHTS

SHIPPED = {"default": Path(__file__).parent / "shipped" / "smollm2-135m"}
ADAPTER = WEIGHTS


@dataclass(frozen=True)
class DecoderFiles:
    """A decoder's folder, its configuration, and where that is from, in words."""

    folder: Path
    config: DecoderConfig
    origin: str = CONFIG_FILE


def find(
    name: str | Path,
    *,
    revision: str | None = None,
    subfolder: str | None = None,
    config: DecoderConfig | str | Path | None = None,
) -> DecoderFiles:
    """Return the files of a shipped decoder, a folder or a Hub id (see ``Decoder.from_pretrained``)."""
    if not isinstance(config, DecoderConfig | str | Path | None):
        raise DecoderConfigError(
            f"got config={config!r:.80}; expected a DecoderConfig, or a file that holds one. A mapping of its fields "
            "becomes one by DecoderConfig(**fields)."
        )
    name = str(name) if isinstance(name, Path) else name
    shipped = SHIPPED.get(name) if isinstance(name, str) else None
    if shipped and revision is not None:
        raise HubError(f"decoder {name!r} ships with the package; got revision {revision!r}. Leave the revision out.")
    where: dict[str, Any] = {"revision": revision, "subfolder": subfolder, "kind": "decoder"}
    root = shipped or hub.resolve(name, **where, refused=REFUSED)
    folder = hub.within(root, subfolder)
    names = [path.name for path in folder.iterdir()]
    hub.refuse_pickles(folder, names, {} if CONFIG_FILE in names else REFUSED)
    if ADAPTER not in names and not is_whole(folder):
        raise HubError(
            f"{name!r} holds no {ADAPTER} and no whole model; expected a PEFT adapter as safetensors (a pickle is "
            "never fetched). Check the name, name a subfolder with --subfolder, or fetch the folder again."
        )
    given = read_description(Path(config), folder, name) if isinstance(config, str | Path) else config
    places = [place / file for place in (folder, root) for file in DESCRIPTIONS]
    path = next((path for path in places if path.is_file()), None)
    stated = _stated(path, folder, name, is_needed=given is None) if path else None
    if stated and given and path:
        _check_agreement(stated, given, path)
    chosen = given or stated or published_config(name, subfolder)
    if chosen is None:
        raise DecoderConfigError(
            f"decoder {name!r} has none of {', '.join(DESCRIPTIONS)} that says how activations enter it, and is not "
            f"among the published ones ({', '.join(PUBLISHED)}). That cannot be guessed: pass config=, for instance "
            f"one of audit_lit.decoder.formats, or a file like protocol.json (--protocol FILE)."
            + how_to_load(name, "--protocol FILE")
        )
    origin = "the configuration that was given" if given else path.name if path else "its published configuration"
    return DecoderFiles(folder, chosen, origin)


def _stated(path: Path, folder: Path, name: str, *, is_needed: bool) -> DecoderConfig | None:
    """Return what a decoder's own description says; None if it cannot be followed and the caller gave another."""
    try:
        return read_description(path, folder, name)
    except DecoderConfigError:
        if is_needed or path.name == CONFIG_FILE:
            raise
        return None


def is_whole(folder: Path) -> bool:
    """Return whether a decoder is a whole model, and not an adapter."""
    return (
        (folder / "config.json").is_file() and not (folder / SETTINGS).is_file() and any(folder.glob("*.safetensors"))
    )


def _check_agreement(stated: DecoderConfig, given: DecoderConfig, path: Path) -> None:
    """Raise unless the caller's configuration says what the decoder's own description says of how it is written."""
    left_open = {"max_new_tokens", "top_p", "top_k"}
    if stated.placeholder == interp_engine.ANY_MARKER:
        left_open |= {"placeholder", "slot_tokens"}
    fields = [field for field in WireFormat.model_fields if field not in left_open]
    if differing := [field for field in fields if getattr(stated, field) != getattr(given, field)]:
        contrasts = ", ".join(
            f"{field} {getattr(given, field)!r:.80} instead of {getattr(stated, field)!r:.80}" for field in differing
        )
        raise DecoderConfigError(
            f"the configuration that was given contradicts {path}: {contrasts}. Leave it out, or correct it."
        )
