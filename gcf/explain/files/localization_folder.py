"""The folder of a localisation: what is drawn stays, whatever happens next; the same command goes on."""

import json
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gcf.data.atomic import atomic_file, clear_left_behind
from gcf.data.disk import disk_faults
from gcf.data.folder import entries, named
from gcf.data.schema import VideoInfo, id_key
from gcf.data.segments import Segment
from gcf.errors import RefusedError
from gcf.explain.files.localization_files import write_localization, write_tables
from gcf.explain.reading.clip_reading import Localization

FORMAT, VERSION, FACTS = "gcf-localization", 1, "localization.json"
SAVE_SECONDS = 30.0
PICTURES = ("overlay", "sheet")


@dataclass(frozen=True)
class DrawnFile:
    """An overlay or a sheet: its name in the folder, and what is to be said of it."""

    name: str
    note: str = ""


@dataclass(eq=False)
class LocalizationFolder:
    """A folder with localization.json: `facts` of the run, and an entry for every video that is done.

    earlier: the entries of an earlier run with the same facts, by the video's id, whose pictures may be used again.
    """

    path: Path
    facts: dict
    earlier: dict[str, dict]
    entries: dict[str, dict] = field(default_factory=dict)
    evidence_kind: str | None = None
    saved: float = field(default_factory=time.monotonic)

    @classmethod
    def begin(
        cls, path: Path, facts: dict, *, videos: Collection[str], overwrite: bool = False
    ) -> "LocalizationFolder":
        """Take a new or empty folder, or one of an earlier run, of other facts or videos only with `overwrite`.

        RefusedError where something else is there. videos: the ids of those to be done, among which those of an
        earlier run must be.
        A run that came to no video has nothing to lose. How the head's folder was called does not matter.
        """
        if path.exists() and not path.is_dir():
            raise RefusedError(f"{path}: is a file; name a folder for the localisation")
        earlier = {}
        if path.exists() and entries(path):
            found = _read(path)
            if found["facts"] | {"head": ""} == json.loads(json.dumps(facts)) | {"head": ""}:
                earlier = {entry["id"]: entry for entry in found["videos"]}
                others = sorted(earlier.keys() - set(videos))
                if others and not overwrite:
                    raise RefusedError(
                        f"{path}: holds a localisation of {len(others)} other videos, such as {others[0]!r}, which "
                        "would be lost; name another folder, or ask to overwrite it"
                    )
                earlier = {video_id: earlier[video_id] for video_id in videos if video_id in earlier}
            elif found["videos"] and not overwrite:
                raise RefusedError(
                    f"{path}: holds a localisation by another head or with other settings; name another folder, or ask "
                    "to overwrite it"
                )
        folder = cls(path, facts, earlier)
        with disk_faults(path):
            path.mkdir(parents=True, exist_ok=True)
            for place in (path, *(p for p in path.rglob("*") if p.is_dir())):
                clear_left_behind(place)
        folder.save()
        return folder

    def pictures(self, video_id: str, info: VideoInfo, segments: Sequence[Segment]) -> dict[str, DrawnFile]:
        """A video's pictures by an earlier run, where they, the video, and what is annotated are as they were."""
        entry = self.earlier.get(video_id, {})
        as_they_were = ("stamp", _stamp(info)), ("annotated", [asdict(segment) for segment in segments])
        if any(entry.get(name) != value for name, value in as_they_were):
            return {}
        notes, names = entry.get("picture_notes", {}), {kind: entry["files"].get(kind) for kind in PICTURES}
        return {k: DrawnFile(v, notes.get(k, "")) for k, v in names.items() if v and (self.path / v).is_file()}

    def add(self, localization: Localization, pictures: dict[str, DrawnFile], segments: Sequence[Segment]) -> None:
        """Write a video's arrays and remember its entry; localization.json follows within half a minute."""
        entry = write_localization(self.path, localization)
        entry["files"].update({kind: picture.name for kind, picture in pictures.items()})
        entry["picture_notes"] = {kind: picture.note for kind, picture in pictures.items() if picture.note}
        entry["annotated"] = [asdict(segment) for segment in segments]
        if localization.reading is not None:
            self.evidence_kind = localization.reading.evidence_kind
            entry["stamp"] = _stamp(localization.reading.info)
        self.entries[localization.id] = entry
        if time.monotonic() - self.saved > SAVE_SECONDS:
            self.save()

    def finish(self, localizations: Sequence[Localization], metrics: dict | None, measured: str) -> None:
        """Write the tables of all videos, and what was measured, in numbers and in words."""
        write_tables(self.path, localizations)
        self.earlier = {}
        self.save(metrics=metrics, measured=measured, complete=True)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever ends the block, what was done in it is written down."""
        try:
            yield
        finally:
            self.save()

    def save(self, *, metrics: dict | None = None, measured: str = "", complete: bool = False) -> None:
        """Write localization.json; until the run is complete, the videos of an earlier one stay in it."""
        entries = self.earlier | self.entries
        content = {
            "format": FORMAT,
            "version": VERSION,
            **{name: self.facts[name] for name in ("gcf", "head", "classes", "settings")},
            "evidence_kind": self.evidence_kind,
            "facts": self.facts,
            "complete": complete,
            "videos": [entries[video_id] for video_id in sorted(entries, key=id_key)],
            "metrics": metrics,
            "measured": measured,
        }
        with disk_faults(self.path / FACTS), atomic_file(self.path / FACTS) as file:
            file.write(json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")
        self.saved = time.monotonic()


def _stamp(info: VideoInfo) -> list[int]:
    """Bytes and nanoseconds, by which a video is known to be the same."""
    return [int(info.size), int(info.mtime_ns)]


def _read(path: Path) -> dict:
    try:
        found = json.loads((path / FACTS).read_bytes())
        if found["format"] == FORMAT and found["version"] == VERSION:
            return {"facts": found["facts"], "videos": [dict(entry, id=str(entry["id"])) for entry in found["videos"]]}
    except (OSError, ValueError, TypeError, KeyError):
        pass
    there = named(entries(path))
    raise RefusedError(f"{path}: not empty, and no localisation of gcf (it holds {there}); name another folder")
