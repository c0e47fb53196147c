"""The parts of an unfinished feature file: small feature files, each written once, beside the output."""

import errno
import fcntl
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gcf.data.atomic import atomic_file, left_behind
from gcf.data.features import FeatureFile
from gcf.data.recipe import canonical_json, differences, recipe_sha256
from gcf.data.schema import FeatureContent, VideoFeatures, id_key
from gcf.data.writer import write_features
from gcf.errors import FeatureFileError, RecipeError, RefusedError, StoppedError

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class PartFolder:
    """`feats.h5.parts/` while `feats.h5` is being made; hold it with `locked` so that only one process does.

    run.json says for which recipe and which list of videos the parts are. writer: a name of this process's own, in
    the names of its parts, where several processes commit to one folder under one lock.
    """

    def __init__(self, out: Path, writer: str = ""):
        self.out = out
        self.suffix = f"-{writer}" if writer else ""
        self.folder = out.with_name(out.name + ".parts")
        self.run_file = self.folder / "run.json"

    @contextmanager
    def locked(self) -> Iterator["PartFolder"]:
        """Make the folder and lock it; the lock ends with this process, however it ends."""
        lock = self._acquire()
        try:
            for path in [*left_behind(self.folder), *left_behind(self.out.parent, self.out.name)]:
                path.unlink()  # left by a kill; nobody else is at work
            yield self
        finally:
            if self.folder.exists() and not any(self.folder.glob("part-*.h5")):  # nothing was committed
                self.remove()
            os.close(lock)

    def _acquire(self) -> int:
        """The descriptor of the lock file, locked."""
        try:
            with self.room_needed(0):
                self.folder.mkdir(exist_ok=True)
                lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        except OSError as error:
            raise RefusedError(f"{self.out}: cannot be written ({error.strerror}); choose another output") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 200, 0).decode(errors="replace")
            os.close(lock)
            raise RefusedError(f"{self.out}: in use by {holder}; wait for it, or stop it") from None
        os.truncate(lock, 0)
        os.pwrite(lock, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        return lock

    def begin(self, recipe: dict, ids: Sequence[str], *, update: bool) -> None:
        """Record what is being made, or check that what was begun is the same. Raises RecipeError, RefusedError."""
        if self.run_file.exists():
            begun = json.loads(self.run_file.read_text())
            check_recipe(self.folder, begun["recipe"], recipe)
            if not update:
                check_list(self.folder, begun["ids"], ids)
        with self.room_needed(0), atomic_file(self.run_file) as file:
            file.write(canonical_json({"recipe": recipe, "ids": list(ids)}).encode())

    def parts(self) -> list[FeatureFile]:
        """The committed parts, in the order of their names."""
        try:
            return [FeatureFile(path) for path in sorted(self.folder.glob("part-*.h5"))]
        except FeatureFileError as error:
            raise FeatureFileError(f"{error}; delete that part and run the same command again") from error

    def commit(self, content: FeatureContent) -> None:
        """Put videos and failures on the disk as one more part. Raises StoppedError when there is no room."""
        taken = [int(p.stem.split("-")[1]) for p in self.folder.glob("part-*.h5")]
        size = sum(v.descriptors.nbytes for v in content.videos)
        with self.room_needed(size):
            write_features(self.folder / f"part-{max(taken, default=0) + 1:06d}{self.suffix}.h5", content)

    @contextmanager
    def room_needed(self, size: int) -> Iterator[None]:
        """Turn a full disk into StoppedError: what is committed stays, and the same command goes on from there."""
        try:
            yield
        except OSError as error:
            if error.errno not in NO_ROOM:
                raise
            raise StoppedError(
                f"{self.out}: no room on the disk ({os.strerror(error.errno)}; {size:,} bytes were to be written); "
                "free some and run the same command again, finished videos are kept"
            ) from error

    def remove(self) -> None:
        """The output is complete, or nothing was begun; run.json goes last, so that no part is ever without it."""
        for path in self.folder.glob("part-*.h5"):
            path.unlink()
        shutil.rmtree(self.folder)


def check_recipe(path: Path, found: dict, wanted: dict) -> None:
    """Raise RecipeError unless two recipes are the same to the last entry."""
    if recipe_sha256(found) != recipe_sha256(wanted):
        listed = "; ".join(differences(found, wanted)[:6])
        raise RecipeError(f"{path}: made by another recipe ({listed}); choose another output, or remove this one")


def check_list(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise RefusedError unless two runs are about the same videos."""
    gone, new = sorted(set(found) - set(wanted), key=id_key), sorted(set(wanted) - set(found), key=id_key)
    if gone or new:
        example = repr((new or gone)[0])
        raise RefusedError(
            f"{path}: about another list of videos ({len(new)} more now, {len(gone)} gone, e.g. {example}); "
            "--update takes the list as it is now, keeping what is done"
        )


def gather(
    sources: Sequence[FeatureFile], *, keep: Callable[[FeatureFile, int], bool] | None = None
) -> dict[str, tuple[FeatureFile, int]]:
    """Where each video's rows are: the first source that has it, of the rows that `keep` accepts."""
    found: dict[str, tuple[FeatureFile, int]] = {}
    for source in sources:
        for n, video_id in enumerate(source.ids):
            if video_id not in found and (keep is None or keep(source, n)):
                found[video_id] = source, n
    return found


class GatheredVideos(Sequence[VideoFeatures]):
    """Videos of several feature files in the order of their ids, read when asked for."""

    def __init__(self, found: dict[str, tuple[FeatureFile, int]]):
        self.places = [found[video_id] for video_id in sorted(found, key=id_key)]

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> VideoFeatures:
        source, n = self.places[index]
        return source.video(n)
