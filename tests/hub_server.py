"""A server that speaks as much of the Hugging Face hub's protocol as fetching a model needs, over a folder of files."""

import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMITS = {"main": "1" * 40, "v2": "2" * 40}  # revision -> commit


class Hub(ThreadingHTTPServer):
    """`folders`: (repository, commit) -> folder; `gated`: repositories that want to be asked; `asked`: all paths."""

    def __init__(self, folders: dict[tuple[str, str], Path], gated: set[str]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.folders, self.gated, self.asked = folders, gated, []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """/owner/name/resolve/REVISION/FILE and /api/models/owner/name/revision/REVISION."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.respond()

    def do_GET(self):
        self.respond()

    def log_message(self, *_):
        pass

    def respond(self):
        self.server.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        api = parts[:2] == ["api", "models"]
        owner, name, _, revision, *rest = parts[2:] + ["revision", "main"] if api else parts
        repository = f"{owner}/{name}"
        commit = COMMITS.get(revision, revision)
        if repository in self.server.gated:
            return self.answer(403, b"", {"X-Error-Code": "GatedRepo", "X-Error-Message": "ask first"})
        if not any(repository == known for known, _ in self.server.folders):
            return self.answer(404, b"", {"X-Error-Code": "RepoNotFound"})
        folder = self.server.folders.get((repository, commit))
        if folder is None:
            return self.answer(404, b"", {"X-Error-Code": "RevisionNotFound"})
        if api:
            files = [{"rfilename": path.name} for path in folder.iterdir()]
            said = {"id": repository, "sha": commit, "siblings": files}
            return self.answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})
        path = folder.joinpath(*rest)
        if not path.is_file():
            return self.answer(404, b"", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        content = path.read_bytes()
        return self.answer(200, content, {"ETag": f'"{hashlib.sha1(content).hexdigest()}"', "X-Repo-Commit": commit})

    def answer(self, code: int, content: bytes, headers: dict[str, str]):
        self.send_response(code)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)


@contextmanager
def serving(folders, gated=frozenset()):
    """A hub that answers meanwhile."""
    hub = Hub(folders, set(gated))
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
