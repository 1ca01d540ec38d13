"""A Hub on the loopback interface: what ``huggingface_hub.snapshot_download`` asks, answered from memory."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

Files = dict[str, bytes]
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+?)(?:/(?P<what>revision|tree)/(?P<revision>[^/?]+))?(?:\?.*)?$")
RESOLVE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>[^?]+)(?:\?.*)?$")


class FakeHub:
    """Repositories, their faults, and every request as ``METHOD path``.

    Faults: ``gated`` (list, but no file), ``missing``, ``error`` (500), ``bad_token`` (401).
    """

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Files]] = {}
        self.faults: dict[str, str] = {}
        self.cuts: dict[str, int] = {}
        self.lies: dict[str, dict[str, Any]] = {}
        """What is answered about a file in place of the truth; about the repository under the empty name."""
        self.etags: dict[str, str] = {}
        """What the header of a file says in place of its hash."""
        self.requests: list[str] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FakeHub:
        Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, repo: str, files: Path | Files) -> str:
        """Publish files as the newest revision of a repository; return its commit."""
        if isinstance(files, Path):
            files = {path.name: path.read_bytes() for path in files.iterdir()}
        digest = hashlib.sha1(repo.encode())
        for name in sorted(files):
            digest.update(name.encode() + files[name])
        self.repos.setdefault(repo, {})[digest.hexdigest()] = dict(files)
        return digest.hexdigest()

    def fetched(self) -> list[str]:
        """Return the paths of all files whose content or metadata was asked for."""
        return [found["path"] for request in self.requests if (found := RESOLVE.match(request.split()[1]))]

    def connect(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Point huggingface_hub, which reads its environment at import, to this Hub and an own cache."""
        from huggingface_hub import close_session, constants

        monkeypatch.setattr(constants, "ENDPOINT", self.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        close_session()  # a new one reads NO_PROXY


def _handler(hub: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.requests.append(f"{self.command} {self.path}")
            found = RESOLVE.match(self.path) or API.match(self.path)
            if found is None:
                self._refuse(404, "EntryNotFound")
            elif self._is_open(found):
                self._serve(**found.groupdict())

        do_HEAD = do_GET

        def _is_open(self, found: re.Match[str]) -> bool:
            fault = hub.faults.get(found["repo"], "" if found["repo"] in hub.repos else "missing")
            if fault == "gated" and "path" in found.groupdict():
                self._refuse(403, "GatedRepo")
            elif fault == "missing":
                self._refuse(401, "RepoNotFound")
            elif fault == "bad_token":
                self._refuse(401, message="Invalid credentials in Authorization header")
            elif fault == "error":
                self._refuse(500)
            else:
                return True
            return False

        def _serve(self, repo: str, revision: str | None, path: str = "", what: str | None = None) -> None:
            revisions = hub.repos[repo]
            commit = list(revisions)[-1] if revision in (None, "main") else str(revision)
            if commit not in revisions:
                self._refuse(404, "RevisionNotFound")
            elif what == "tree":
                files = revisions[commit].items()
                self._send(
                    json.dumps([_listed(name, body) | hub.lies.get(name, {}) for name, body in files]).encode(), {}
                )
            elif not path:
                siblings = [{"rfilename": name} for name in revisions[commit]]
                answer = {"id": repo, "sha": commit, "siblings": siblings} | hub.lies.get("", {})
                self._send(json.dumps(answer).encode(), {})
            elif path not in revisions[commit]:
                self._refuse(404, "EntryNotFound")
            else:
                body = revisions[commit][path]
                etag = hub.etags.get(path) or _etag(path, body)
                self._send(body, {"ETag": f'"{etag}"', "X-Repo-Commit": commit}, hub.cuts.get(path))

        def _refuse(self, status: int, code: str = "", message: str = "") -> None:
            headers = {"X-Error-Code": code, "X-Error-Message": message}
            self._send(b"", {name: value for name, value in headers.items() if value}, status=status)

        def _send(self, body: bytes, headers: dict[str, str], cut: int | None = None, status: int = 200) -> None:
            start = 0
            if asked := re.match(r"bytes=(\d+)-", self.headers.get("Range", "")):
                start, status = int(asked[1]), 206
                headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body) - start)}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[start:cut])
                self.close_connection = cut is not None

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _etag(name: str, content: bytes) -> str:
    """Return the hash that names a file: large ones have their SHA-256."""
    return hashlib.sha256(content).hexdigest() if name.endswith(".safetensors") else _oid(content)


def _listed(name: str, content: bytes) -> dict[str, Any]:
    large = {"lfs": {"oid": _etag(name, content), "size": len(content), "pointerSize": 100}}
    listed = {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
    return listed | (large if name.endswith(".safetensors") else {})


def closed_port() -> int:
    """Return a port of this machine on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
