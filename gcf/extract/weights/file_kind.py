"""What the first bytes of a file say it is."""

import struct
from pathlib import Path

HEAD_BYTES = 512
WEIGHTS_KINDS = ("zip", "pickle", "safetensors")
WEB_PAGE_STARTS = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")


def kind_of_head(head: bytes) -> str:
    """Kind of a file that begins so: "zip" | "pickle" (torch before 1.6) | "safetensors" | "web page" | "".

    >>> kind_of_head(b"<!DOCTYPE html><title>Sign in</title>")
    'web page'
    """
    if head[:4] == b"PK\x03\x04":
        return "zip"
    if len(head) > 1 and head[0] == 0x80 and 2 <= head[1] <= 5:  # the PROTO instruction of a pickle
        return "pickle"
    if len(head) > 8 and head[8:9] == b"{" and 2 <= struct.unpack("<Q", head[:8])[0] < 100_000_000:
        return "safetensors"  # the format's own bound of its JSON header is 100 MB
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(WEB_PAGE_STARTS):
        return "web page"
    return ""


def file_kind(path: Path) -> str:
    """Kind of a file on disk, by its first bytes."""
    with path.open("rb") as file:
        return kind_of_head(file.read(HEAD_BYTES))
