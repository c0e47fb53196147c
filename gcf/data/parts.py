"""The parts of an unfinished feature file: small feature files, each written once, beside the output."""

import errno
import json
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

from gcf.data.atomic import FULL, NO_ROOM, atomic_file, left_behind, sync_folder
from gcf.data.features import FeatureFile
from gcf.data.lock import take_lock
from gcf.data.recipe import MEASURED, canonical_json, differences, recipe_sha256
from gcf.data.schema import FeatureContent, VideoFeatures, id_key
from gcf.data.writer import write_features
from gcf.errors import FeatureFileError, RecipeError, RefusedError, StoppedError

log = logging.getLogger("gcf")


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
        self._opened: dict[Path, FeatureFile] = {}

    @contextmanager
    def locked(self) -> Iterator["PartFolder"]:
        """Make the folder and lock it; the lock ends with this process, however it ends."""
        lock = self._acquire()
        try:
            with self.room_needed(0):
                for path in [*left_behind(self.folder), *left_behind(self.out.parent, self.out.name)]:
                    path.unlink(missing_ok=True)  # left by a kill; nobody else is at work
            yield self
        finally:
            with suppress(OSError):  # what stays of it the next run takes away
                if not any(self.folder.glob("part-*.h5")):  # nothing was committed
                    self._remove()
            os.close(lock)

    def _acquire(self) -> int:
        """The descriptor of the lock file, locked."""
        try:
            return take_lock(self.folder / "lock", of=self.out)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise self.stopped(error, 0) from error
            raise RefusedError(f"{self.out}: cannot be written ({error.strerror}); choose another output") from error

    def begin(self, recipe: dict, ids: Sequence[str], *, update: bool) -> None:
        """Record what is being made, or check that what was begun is the same. Raises RecipeError, RefusedError."""
        record = canonical_json({"recipe": recipe, "ids": list(ids)}).encode()
        if self.run_file.exists():
            if self.run_file.read_bytes() == record:
                return
            begun = self._begun()
            check_recipe(self.folder, begun["recipe"], recipe)
            if not update:
                check_list(self.folder, begun["ids"], ids)
        with self.room_needed(0), atomic_file(self.run_file) as file:
            file.write(record)
            sync_folder(self.folder.parent)  # the folder of the parts must survive a power cut as they do

    def _begun(self) -> dict:
        try:
            begun = json.loads(self.run_file.read_bytes())
            return {"recipe": dict(begun["recipe"]), "ids": [str(i) for i in begun["ids"]]}
        except (ValueError, KeyError, TypeError) as error:
            raise FeatureFileError(
                f"{self.run_file}: damaged; remove it and run the same command again, finished videos are kept"
            ) from error

    def parts(self, *, repair: bool = False) -> list[FeatureFile]:
        """The committed parts, the newest first.

        Raises FeatureFileError for one of which nothing can be read; with `repair` it is removed.
        """
        found = []
        for path in sorted(self.folder.glob("part-*.h5"), reverse=True):
            try:
                if path not in self._opened:  # parts are written once, so what was read stays true
                    self._opened[path] = FeatureFile(path)
                found.append(self._opened[path])
            except FeatureFileError as error:
                if not repair:
                    advice = "with --repair the same command does its videos again"
                    raise FeatureFileError(f"{str(error).removesuffix('; extract again')}; {advice}") from error
                log.warning("%s; its videos are done again", str(error).removesuffix("; extract again"))
                with self.room_needed(0):
                    path.unlink()
        return found

    def commit(self, content: FeatureContent) -> None:
        """Put videos and failures on the disk as one more part. Raises StoppedError when there is no room."""
        taken = [int(p.stem.split("-")[1]) for p in self.folder.glob("part-*.h5")]
        videos = cast(Sequence[VideoFeatures], content.videos)
        size = sum(video.descriptors.nbytes for video in videos)
        with self.room_needed(size):
            write_features(self.folder / f"part-{max(taken, default=0) + 1:06d}{self.suffix}.h5", content)

    @contextmanager
    def room_needed(self, size: int) -> Iterator[None]:
        """Turn what a disk refuses into StoppedError: what is committed stays, the same command goes on from there.

        size: about how many bytes are going to be written.
        """
        try:
            yield
        except OSError as error:
            raise self.stopped(error, size) from error

    def stopped(self, error: OSError, size: int) -> StoppedError:
        """What to tell of an OSError in writing."""
        reason, again = os.strerror(error.errno or errno.EIO), "the same command again, finished videos are kept"
        if error.errno in FULL:
            wanted = f"; {size:,} bytes were to be written" if size else ""
            return StoppedError(f"{self.out}: no room on the disk ({reason}{wanted}); free some and run {again}")
        return StoppedError(
            f"{self.out}: stopped by {error.filename or 'the disk'} ({reason}); mend it and run {again}"
        )

    def remove(self) -> None:
        """The output is complete: take the parts away, run.json and lock last, so that no part is without them."""
        with self.room_needed(0):
            self._remove()

    def _remove(self) -> None:
        for path in sorted(self.folder.iterdir(), key=lambda p: (p.name == "lock", p.name == self.run_file.name)):
            path.unlink()
        self.folder.rmdir()
        sync_folder(self.folder.parent)


def check_recipe(path: Path, found: dict, wanted: dict) -> None:
    """Raise RecipeError unless two recipes ask for the same to the last entry."""
    if recipe_sha256(found) != recipe_sha256(wanted) and (wrong := differences(found, wanted, ignore=MEASURED)):
        listed, remedy = "; ".join(wrong[:6]), "choose another output, or remove this one"
        if any(found.get(name) != wanted.get(name) for name in ("precision", "runtime", "batch_size")):
            how = "--precision, --runtime and --batch-size"
            remedy = f"name the {how} that it was made with where the machine has them, {remedy}"
        raise RecipeError(f"{path}: made by another recipe ({listed}); {remedy}")


def check_list(path: Path, found: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise RefusedError unless two runs are about the same videos."""
    gone, new = sorted(set(found) - set(wanted), key=id_key), sorted(set(wanted) - set(found), key=id_key)
    if gone or new:
        example = repr((new or gone)[0])
        raise RefusedError(
            f"{path}: about another list of videos ({len(new)} more now, {len(gone)} gone, e.g. {example}); "
            "--update takes the list as it is now, keeping what is done"
        )
