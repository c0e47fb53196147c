"""Fetch one file over HTTP: addresses in order, resumed where it stopped, complete or absent."""

import errno
import fcntl
import hashlib
import http.client
import json
import logging
import os
import re
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tqdm import tqdm

from gcf import _version
from gcf.data.atomic import atomic_file, sync_folder
from gcf.errors import GcfError, StoppedError, WeightsError
from gcf.extract.weights.file_kind import HEAD_BYTES, WEIGHTS_KINDS, kind_of_head

log = logging.getLogger("gcf")
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 1 << 18
ATTEMPTS = 4  # per address, each going on where the last one stopped


@dataclass(frozen=True)
class DownloadSource:
    """Where a file of weights comes from.

    `urls`: direct addresses, tried in order. `folder`: a page where a person can fetch it. `sha256`: hex digest or
    its first digits, '' where none was published. `packaged`: it comes with gcf, nothing is to be fetched.
    """

    file: str
    urls: tuple[str, ...] = ()
    folder: str = ""
    sha256: str = ""
    packaged: bool = False


@dataclass(frozen=True)
class PartialDownload:
    """What is known of a half-done transfer, kept beside it: whence, which version (ETag), how long in all."""

    url: str
    etag: str = ""
    total_bytes: int = -1


class TransferError(Exception):
    """One attempt at one address failed; `final` where trying it again is of no use."""

    def __init__(self, reason: str, *, final: bool = False):
        super().__init__(reason)
        self.final = final


def download(source: DownloadSource, path: Path) -> tuple[str, str]:
    """Fetch a file of weights to `path`; (address, sha256 hex digest) of what is there then.

    Bytes go to `path` + ".part", are synced and checked, and get their name last. Another process that fetches the
    same file is waited for. Raises WeightsError when no address gives it: the text says what to do by hand.
    """
    failures = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            for url in () if path.exists() else source.urls:
                try:
                    return url, _fetch(url, path, sha256=source.sha256)
                except TransferError as error:
                    failures.append(str(error))
                    log.warning("%s: %s", url, error)
            if path.exists():
                return "", file_sha256(path)
    except OSError as error:
        raise _local_fault(error, path) from error
    reasons = "; ".join(dict.fromkeys(failures))
    raise WeightsError(f"{source.file} could not be fetched: {reasons}; {by_hand(source, path)}")


def by_hand(source: DownloadSource, path: Path) -> str:
    """How a person gets the file without this program."""
    places = [*source.urls, *([source.folder] if source.folder else [])]
    return f"get it from {' or '.join(places)} and put it at {path}"


def file_sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fetch(url: str, path: Path, *, sha256: str) -> str:
    """One address, all attempts; the digest of the file then at `path`."""
    part, notes = path.with_name(f"{path.name}.part"), path.with_name(f"{path.name}.part.json")
    for attempt in range(1, ATTEMPTS + 1):
        try:
            _transfer(url, part, notes)
            break
        except TransferError as error:
            if error.final or attempt == ATTEMPTS:
                raise
            log.info("%s: %s; going on", url, error)
    found = file_sha256(part)
    if not found.startswith(sha256):
        part.unlink()
        notes.unlink(missing_ok=True)
        raise TransferError(f"sha256 is {found}, expected {sha256}", final=True)
    part.replace(path)
    notes.unlink(missing_ok=True)
    sync_folder(path.parent)
    return found


def _transfer(url: str, part: Path, notes: Path) -> None:
    """One attempt: bring `part` to its full length, from where it stands if the server still has the same file."""
    before = _read_notes(notes, url)
    have = part.stat().st_size if before and part.exists() else 0
    if before and have == before.total_bytes > 0:
        return
    with _opened(url, have, before) as response:
        if response is None:  # the server says that there is nothing beyond what we have: it is not the same file
            part.unlink()
            raise TransferError("the file on the server is shorter than what was fetched of it")
        resumed = have > 0 and response.status == http.client.PARTIAL_CONTENT
        start = have if resumed else 0
        now = _described(url, response, start)
        if resumed and (start, now.total_bytes) != (_range_start(response), before.total_bytes):
            part.unlink()
            raise TransferError("the file on the server has changed since the transfer began")
        if not resumed:
            part.unlink(missing_ok=True)  # before the new notes are there: they must never speak of old bytes
        with atomic_file(notes) as file:
            file.write(json.dumps(asdict(now)).encode())
        with part.open("r+b" if resumed else "wb") as file:
            file.seek(start)
            for chunk in _chunks(response, part.name.removesuffix(".part"), start, now.total_bytes):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
    if now.total_bytes not in (-1, size):
        raise TransferError(f"the connection ended after {size} of {now.total_bytes} bytes")


@contextmanager
def _opened(url: str, have: int, before: PartialDownload | None) -> Iterator[http.client.HTTPResponse | None]:
    """The answer to a request for the bytes from `have` on; None where the server has none there."""
    headers = {"User-Agent": f"gcf/{_version.__version__}", "Accept-Encoding": "identity"}
    if have and before:
        headers["Range"] = f"bytes={have}-"
        if before.etag:
            headers["If-Range"] = before.etag
    try:
        response = _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            yield None
            return
        again = error.code >= http.client.INTERNAL_SERVER_ERROR
        raise TransferError(f"the server answered {error.code} {error.reason}", final=not again) from error
    except (OSError, http.client.HTTPException) as error:
        raise TransferError(f"no connection ({getattr(error, 'reason', error)})", final=True) from error
    with response:
        yield response


def _chunks(response: http.client.HTTPResponse, name: str, start: int, total_bytes: int) -> Iterator[bytes]:
    """The body in pieces, with a progress bar; refuses at once what cannot be weights."""
    seconds = 0.2 if sys.stderr.isatty() else 30.0  # a log file wants few lines
    total = None if total_bytes < 0 else total_bytes
    bar = tqdm(desc=name, initial=start, total=total, unit="B", unit_scale=True, mininterval=seconds)
    with bar:
        position = start
        while True:
            try:
                chunk = response.read(CHUNK_BYTES)
            except (OSError, http.client.HTTPException) as error:
                raise TransferError(f"the connection broke after {position} bytes ({error})") from error
            if position == 0:
                _refuse_foreign(chunk[:HEAD_BYTES], response)
            if not chunk:
                return
            yield chunk
            position += len(chunk)
            bar.update(len(chunk))


def _refuse_foreign(head: bytes, response: http.client.HTTPResponse) -> None:
    if kind_of_head(head) not in WEIGHTS_KINDS:
        kind = response.headers.get_content_type()
        raise TransferError(f"what came is no file of weights but {kind}, perhaps a login or quota page", final=True)


def _described(url: str, response: http.client.HTTPResponse, start: int) -> PartialDownload:
    etag = response.headers.get("ETag", "")
    length = response.headers.get("Content-Length")
    total = start + int(length) if length and length.isdigit() else -1
    return PartialDownload(url, etag="" if etag.startswith("W/") else etag, total_bytes=total)


def _range_start(response: http.client.HTTPResponse) -> int:
    found = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    return int(found[1]) if found else -1


def _read_notes(notes: Path, url: str) -> PartialDownload | None:
    """What an earlier attempt at the same address left; None where nothing tells that a Range would continue it."""
    try:
        progress = PartialDownload(**json.loads(notes.read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
    return progress if progress.url == url and progress.total_bytes > 0 else None


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req, fp, code, msg, headers, newurl):
        if req.type == "https" and not newurl.startswith("https:"):
            raise urllib.error.URLError(f"it redirects to {newurl}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    """HTTP and HTTPS, through the proxies of the environment, and nothing else: no file:, no ftp:."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.UnknownHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        _Redirects,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    return opener


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time per file; the lock goes when the process does."""
    with path.with_name(f"{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.warning("another process is fetching %s; waiting for it", path.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _local_fault(error: OSError, path: Path) -> GcfError:
    where = error.filename or path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StoppedError(f"{where}: {error.strerror}; make room, or let GCF_HOME name another folder, and try again")
    return WeightsError(f"{where}: {error.strerror or error}; GCF_HOME names another folder for weights")
