"""Downloads against a small server on this machine that can misbehave in every way that matters."""

import errno
import hashlib
import http.server
import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field

import pytest

from gcf.errors import StoppedError, WeightsError
from gcf.extract.weights import download as download_module
from gcf.extract.weights.download import DownloadSource, download

BODY = b"PK\x03\x04" + random.Random(0).randbytes(700_000)
DIGEST = hashlib.sha256(BODY).hexdigest()


@dataclass
class Behaviour:
    """What the server does; `requests` is what it was asked (path, Range, If-Range)."""

    body: bytes = BODY
    etag: str = '"one"'
    ranges: bool = True
    length: bool = True
    content_type: str = "application/octet-stream"
    cuts: list[int] = field(default_factory=list)  # answer k ends after that many bytes
    statuses: list[int] = field(default_factory=list)  # answer k is this error instead, 0 for none
    location: str = ""
    delay_seconds: float = 0.0
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        how = self.server.behaviour
        how.requests.append((self.path, self.headers["Range"], self.headers["If-Range"]))
        status = how.statuses.pop(0) if how.statuses else 0
        if status:
            self.send_response(status)
            if how.location:
                self.send_header("Location", how.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        time.sleep(how.delay_seconds)
        start = 0
        wanted = re.match(r"bytes=(\d+)-", self.headers["Range"] or "")
        if wanted and how.ranges and self.headers["If-Range"] in (None, how.etag):
            start = int(wanted[1])
            if start >= len(how.body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(how.body) - 1}/{len(how.body)}")
        else:
            self.send_response(200)
        self.send_header("Content-Type", how.content_type)
        if how.etag:
            self.send_header("ETag", how.etag)
        if how.length:
            self.send_header("Content-Length", str(len(how.body) - start))
        self.end_headers()
        end = start + how.cuts.pop(0) if how.cuts else len(how.body)
        self.wfile.write(how.body[start:end])

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """(behaviour, base address)."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.behaviour = Behaviour()
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running.behaviour, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def dead():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/a.pth"


def left_over(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_whole_under_its_name_with_nothing_left_beside_it(server, tmp_path):
    _, base = server
    path = tmp_path / "made" / "a.pth"
    assert download(DownloadSource("a.pth", (f"{base}/a.pth",)), path) == (f"{base}/a.pth", DIGEST)
    assert path.read_bytes() == BODY
    assert left_over(path.parent) == ["a.pth"]


def test_progress_with_rate_goes_to_standard_error(server, tmp_path, capfd):
    _, base = server
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    out, err = capfd.readouterr()
    assert out == ""
    assert re.search(r"a\.pth: 100%.*700k/700k.*B/s", err)


@pytest.mark.parametrize("prefix", [DIGEST, DIGEST[:8]])
def test_a_published_digest_or_its_beginning_is_accepted(prefix, server, tmp_path):
    _, base = server
    download(DownloadSource("a.pth", (f"{base}/a.pth",), sha256=prefix), tmp_path / "a.pth")


def test_a_file_with_another_digest_is_not_kept(server, tmp_path):
    _, base = server
    with pytest.raises(WeightsError, match=f"sha256 is {DIGEST}, expected 00000000"):
        download(DownloadSource("a.pth", (f"{base}/a.pth",), sha256="00000000"), tmp_path / "a.pth")
    assert left_over(tmp_path) == []


def test_mirrors_are_tried_in_order(server, dead, tmp_path):
    how, base = server
    how.statuses = [404]
    source = DownloadSource("a.pth", (dead, f"{base}/gone.pth", f"{base}/b.pth", f"{base}/never.pth"))
    assert download(source, tmp_path / "a.pth") == (f"{base}/b.pth", DIGEST)
    assert [path for path, _, _ in how.requests] == ["/gone.pth", "/b.pth"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    how, base = server
    how.cuts = [300_000, 100_000]
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == BODY
    assert how.requests == [
        ("/a.pth", None, None),
        ("/a.pth", "bytes=300000-", '"one"'),
        ("/a.pth", "bytes=400000-", '"one"'),
    ]


def test_a_later_run_goes_on_with_what_an_earlier_one_left(server, tmp_path):
    how, base = server
    source = DownloadSource("a.pth", (f"{base}/a.pth",), sha256=DIGEST)
    how.cuts = [200_000, 0, 0, 0]
    with pytest.raises(WeightsError, match="the connection ended after 200000 of 700004 bytes"):
        download(source, tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()
    how.requests.clear()
    download(source, tmp_path / "a.pth")
    assert how.requests == [("/a.pth", "bytes=200000-", '"one"')]
    assert (tmp_path / "a.pth").read_bytes() == BODY
    assert left_over(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("change", ["etag", "no ranges", "shorter, no etag", "longer, no etag"])
def test_a_file_that_changed_on_the_server_is_begun_anew(change, server, tmp_path):
    how, base = server
    if "no etag" in change:
        how.etag = ""
    how.cuts = [200_000, 0, 0, 0]
    source = DownloadSource("a.pth", (f"{base}/a.pth",))
    with pytest.raises(WeightsError):
        download(source, tmp_path / "a.pth")
    length = {"shorter, no etag": 100_000, "longer, no etag": 900_000}.get(change, 700_000)
    how.body = b"PK\x03\x04" + os.urandom(length)
    how.etag = '"two"' if change == "etag" else how.etag
    how.ranges = change != "no ranges"
    download(source, tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == how.body


def test_new_notes_never_stand_beside_old_bytes_not_even_for_a_moment(server, tmp_path, monkeypatch):
    how, base = server
    how.cuts = [200_000, 0, 0, 0]
    source = DownloadSource("a.pth", (f"{base}/a.pth",))
    with pytest.raises(WeightsError):
        download(source, tmp_path / "a.pth")

    def killed(notes):
        raise KeyboardInterrupt

    how.etag = '"two"'
    monkeypatch.setattr(download_module, "atomic_file", killed)
    with pytest.raises(KeyboardInterrupt):
        download(source, tmp_path / "a.pth")
    assert not (tmp_path / "a.pth.part").exists()


def test_what_another_mirror_left_half_done_is_not_continued(server, tmp_path):
    how, base = server
    how.cuts = [200_000, 0, 0, 0]
    download(DownloadSource("a.pth", (f"{base}/one.pth", f"{base}/two.pth")), tmp_path / "a.pth")
    assert how.requests[-1] == ("/two.pth", None, None)
    assert (tmp_path / "a.pth").read_bytes() == BODY


def test_a_whole_part_that_only_lacked_its_name_is_not_fetched_again(server, tmp_path):
    how, base = server
    (tmp_path / "a.pth.part").write_bytes(BODY)
    notes = {"url": f"{base}/a.pth", "etag": "", "total_bytes": len(BODY)}
    (tmp_path / "a.pth.part.json").write_text(json.dumps(notes))
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert how.requests == []
    assert (tmp_path / "a.pth").read_bytes() == BODY


@pytest.mark.parametrize("notes", ["", "[]", '{"url": 1}', '{"strange": 1}'])
def test_damaged_notes_of_a_half_done_transfer_mean_a_new_beginning(notes, server, tmp_path):
    how, base = server
    (tmp_path / "a.pth.part").write_bytes(b"PK\x03\x04 of something else")
    (tmp_path / "a.pth.part.json").write_text(notes)
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert how.requests == [("/a.pth", None, None)]
    assert (tmp_path / "a.pth").read_bytes() == BODY


def test_a_server_that_names_no_length_is_read_to_the_end(server, tmp_path):
    how, base = server
    how.length = False
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert (tmp_path / "a.pth").read_bytes() == BODY


def test_a_server_error_is_tried_again(server, tmp_path):
    how, base = server
    how.statuses = [503]
    download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert len(how.requests) == 2


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><title>Sign in</title>" * 99, b"", b"quota exceeded"])
def test_a_page_instead_of_weights_is_not_accepted(body, server, tmp_path):
    how, base = server
    how.body, how.content_type = body, "text/html; charset=utf-8"
    with pytest.raises(WeightsError, match=r"no file of weights but text/html, perhaps a login or quota page"):
        download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


def test_offline_the_error_says_what_to_get_from_where_and_where_to_put_it(dead, tmp_path):
    source = DownloadSource("a.pth", (dead, f"{dead}2"), "https://drive.example/folder")
    with pytest.raises(WeightsError) as caught:
        download(source, tmp_path / "a.pth")
    message = str(caught.value)
    assert message.startswith("a.pth could not be fetched: no connection (")
    assert message.endswith(
        f"; get it from {dead} or {dead}2 or https://drive.example/folder and put it at {tmp_path / 'a.pth'}"
    )


@pytest.mark.parametrize("address", ["file:///etc/hostname", "ftp://127.0.0.1/a.pth", "data:,PK"])
def test_only_http_is_spoken(address, tmp_path):
    with pytest.raises(WeightsError, match="no connection"):
        download(DownloadSource("a.pth", (address,)), tmp_path / "a.pth")
    assert not (tmp_path / "a.pth").exists()


def test_a_redirect_leads_to_the_file_but_never_to_a_local_one(server, tmp_path):
    how, base = server
    how.statuses, how.location = [302], f"{base}/elsewhere.pth"
    assert download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")[1] == DIGEST
    how.statuses, how.location = [302], "file:///etc/hostname"
    with pytest.raises(WeightsError):
        download(DownloadSource("b.pth", (f"{base}/b.pth",)), tmp_path / "b.pth")


def test_an_encrypted_address_never_leads_to_an_open_one():
    asked = urllib.request.Request("https://one.example/a.pth")
    with pytest.raises(urllib.error.URLError, match="not encrypted"):
        download_module._Redirects().redirect_request(asked, None, 302, "Found", {}, "http://one.example/a.pth")


@pytest.mark.slow
def test_processes_that_fetch_one_file_at_once_all_get_it_whole(server, tmp_path):
    how, base = server
    how.delay_seconds = 1.0  # so that all have come before the first is done
    code = (
        "import sys; from pathlib import Path; from gcf.extract.weights.download import DownloadSource, download;"
        "print(download(DownloadSource('a.pth', (sys.argv[1],)), Path(sys.argv[2]))[1])"
    )
    command = [sys.executable, "-c", code, f"{base}/a.pth", str(tmp_path / "a.pth")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(3)]
    assert [child.communicate(timeout=60)[0].decode().strip() for child in children] == [DIGEST] * 3
    assert len(how.requests) == 1
    assert (tmp_path / "a.pth").read_bytes() == BODY


def test_a_full_disk_can_be_resumed_and_a_forbidden_folder_is_named(server, tmp_path, monkeypatch):
    _, base = server

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(download_module.os, "fsync", full)
    with pytest.raises(StoppedError, match=r"No space left.*GCF_HOME"):
        download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "a.pth")
    (tmp_path / "file").touch()
    with pytest.raises(WeightsError, match=r"file.*GCF_HOME"):
        download(DownloadSource("a.pth", (f"{base}/a.pth",)), tmp_path / "file" / "a.pth")
