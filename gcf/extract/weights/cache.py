"""The folder of fetched weights, and what each file was when it was first seen.

Most publishers gave no digests. So the first digest seen of a file from an address is written down beside it, and a
later one that differs is refused: an altered file and an altered publication both show.
"""

import json
import logging
from pathlib import Path

from gcf.data.atomic import atomic_file
from gcf.data.home import home_folder
from gcf.errors import WeightsError
from gcf.extract.weights.download import DownloadSource, by_hand, download, file_sha256

log = logging.getLogger("gcf")
PLACED_BY_HAND = "placed by hand"
FILE_SUFFIXES = (".pth", ".pyth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors")
PACKAGED = Path(__file__).parents[1] / "backbones" / "packaged"


def weights_folder() -> Path:
    """Where fetched weights are kept."""
    return home_folder() / "weights"


def cached_path(source: DownloadSource) -> Path:
    """Where a file of weights is, or would be."""
    return (PACKAGED if source.packaged else weights_folder()) / source.file


def obtain(source: DownloadSource) -> tuple[Path, str]:
    """(path, sha256) of a file of weights, fetched if it is not there yet.

    Raises WeightsError when it cannot be had, when it is not what was published, or not what it was before.
    """
    path, address = cached_path(source), ""
    if source.packaged:
        return path, _packaged_digest(source, path)
    if not path.exists() and not source.urls:
        raise WeightsError(f"{source.file} has no direct address; {by_hand(source, path)}")
    if path.exists():
        digest = file_sha256(path)
    else:
        log.info("fetching %s", source.file)
        address, digest = download(source, path)
    _check_published(source, path, digest)
    _check_seen(path, digest, address)
    return path, digest


def seen_digests(path: Path) -> dict[str, str]:
    """Address -> sha256 that its file had at first sight; {} for a file never seen."""
    try:
        return json.loads(_notes(path).read_bytes())["sha256"]
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{_notes(path)}: not readable ({error}); delete it to trust {path.name} anew") from error


def _packaged_digest(source: DownloadSource, path: Path) -> str:
    digest = file_sha256(path) if path.exists() else ""
    if not digest or not digest.startswith(source.sha256):
        fault = "not what came with gcf" if digest else "missing, though it is a part of gcf"
        raise WeightsError(f"{path}: {fault}; install gcf again")
    return digest


def _notes(path: Path) -> Path:
    return path.with_name(f"{path.name}.seen.json")


def _check_published(source: DownloadSource, path: Path, digest: str) -> None:
    if not digest.startswith(source.sha256):
        raise WeightsError(
            f"{path}: sha256 is {digest}, published was {source.sha256}...; delete the file and try again"
        )


def _check_seen(path: Path, digest: str, address: str) -> None:
    """Compare with what came from the same address before, or for a file found there, with anything seen."""
    seen = seen_digests(path)
    known = set() if address else set(seen.values())
    if address in seen:
        known = {seen[address]}
    if known and digest not in known:
        if address:
            path.unlink()
        raise WeightsError(
            f"{path}: sha256 is {digest}, at first sight it was {' or '.join(sorted(known))}; "
            f"if you trust the change, delete {_notes(path)} and try again"
        )
    if not known:
        _write_down(path, seen | {address or PLACED_BY_HAND: digest})


def _write_down(path: Path, seen: dict[str, str]) -> None:
    try:
        with atomic_file(_notes(path)) as file:
            file.write(json.dumps({"sha256": seen}, indent=1).encode())
    except OSError as error:  # a shared, read-only folder of weights is still of use
        log.warning("%s: sha256 could not be written down (%s); a later change will not show", path, error)
    else:
        log.info("%s: sha256 written down at first sight: %s", path, ", ".join(seen.values()))
