"""Which video an annotated name stands for: names and ids rarely agree in folders and endings."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from gcf.errors import AnnotationError

# Only these count as endings: 'take.1' must not lose its '.1'.
VIDEO_ENDING = re.compile(
    r"(3g2|3gp|asf|avi|flv|gif|h26[45]|hevc|m2ts|m4v|mjpe?g|mkv|mov|mp4|mpe?g|mts|mxf|og[gv]|ts|vob|webm|wmv)", re.I
)
TIMED = re.compile(r"(.+)_\d{6}_\d{6}")  # Kinetics: {youtube_id}_{start:06d}_{end:06d}
PREFIXED = re.compile(r"v_([\w-]{11})")  # ActivityNet downloads: v_{youtube_id}


def match_names(ids: Sequence[str], names: Collection[str], *, source: str) -> dict[str, int]:
    """Name -> index into `ids`, for the names that have a video; linear in ids and names.

    A name stands for the id that it equals or ends (`walk/01.avi`, `01.avi` and `01` for `set1/walk/01.avi`). Names
    left over may still stand for a video that no name claimed: by another ending, by an id that the name ends in
    (`/elsewhere/walk/01.avi` for `walk/01.avi`), or by the forms of Kinetics and ActivityNet downloads (`ID`,
    `ID_000010_000020`, `v_ID`). Folders that contradict each other never match.

    Raises AnnotationError where a name fits two videos equally well.
    """
    exact = {video: i for i, video in enumerate(ids)}
    found = {name: exact[name] for name in names if name in exact}
    rest = [(name, _forms(_clean(name))) for name in names if name not in found]
    videos = [(i, _forms(video)) for i, video in enumerate(ids)] if rest else []
    for rules in (SURE, LIKELY):
        for video_keys, name_keys in rules:
            if not rest:
                break
            pairs = ((key, i) for i, forms in videos for key in video_keys(forms))
            if video_keys in OF_TAILS:  # kept where a name asks for one: all would be the square of a path's length
                wanted = {key for _, forms in rest for key in name_keys(forms)}
                pairs = (pair for pair in pairs if pair[0] in wanted)
            index = _Index(pairs)
            for name, forms in rest:
                candidates = index.find(name_keys(forms))
                if len(candidates) > 1:
                    both = " or ".join(repr(ids[i]) for i in candidates)
                    raise AnnotationError(f"{source}: {name!r} may be {both}; write more of its path")
                if candidates:
                    found[name] = candidates[0]
            rest = [(name, forms) for name, forms in rest if name not in found]
        claimed = set(found.values())
        videos = [(i, forms) for i, forms in videos if i not in claimed]
    return found


class _Index:
    """Key -> the first two videos under it: the second is enough to know that the key is ambiguous."""

    def __init__(self, pairs: Iterable[tuple[str, int]]) -> None:
        self._first: dict[str, int] = {}
        self._second: dict[str, int] = {}
        for key, i in pairs:
            if self._first.setdefault(key, i) != i:
                self._second.setdefault(key, i)

    def find(self, keys: Iterable[str]) -> list[int]:
        """The videos under the first key that has any."""
        for key in keys:
            if key in self._first:
                return [self._first[key]] + ([self._second[key]] if key in self._second else [])
        return []


def _clean(name: str) -> str:
    """Without ./, doubled and leading slashes; \\ as written on Windows becomes /.

    >>> _clean(".\\\\walk//01.avi")
    'walk/01.avi'
    """
    return "/".join([part for part in name.replace("\\", "/").split("/") if part not in ("", ".")])


def _stem(path: str) -> str:
    """Without the ending, if it is a video's.

    >>> _stem("walk/01.avi"), _stem("walk/take.1")
    ('walk/01', 'walk/take.1')
    """
    head, _, ending = path.rpartition(".")
    return head if VIDEO_ENDING.fullmatch(ending) and head and head[-1] != "/" else path


def _forms(path: str) -> tuple[str, str]:
    return path, _stem(path)


def _tails(path: str) -> Iterator[str]:
    """What follows each slash, longest first, one at a time.

    >>> list(_tails("set1/walk/01.avi"))
    ['walk/01.avi', '01.avi']
    """
    start = path.find("/") + 1
    while start:
        yield path[start:]
        start = path.find("/", start) + 1


def _whole(forms: tuple[str, str]) -> list[str]:
    return [forms[0]]


def _stem_only(forms: tuple[str, str]) -> list[str]:
    return [forms[1]]


def _whole_tails(forms: tuple[str, str]) -> Iterator[str]:
    return _tails(forms[0])


def _stem_tails(forms: tuple[str, str]) -> Iterator[str]:
    return _tails(forms[1])


def _stem_and_tails(forms: tuple[str, str]) -> Iterator[str]:
    yield forms[1]
    yield from _tails(forms[1])


def _film(forms: tuple[str, str]) -> list[str]:
    """The film that a downloaded clip was cut from."""
    base = forms[1].rpartition("/")[2]
    return [match[1] for form in (TIMED, PREFIXED) if (match := form.fullmatch(base))]


def _film_of_timed(forms: tuple[str, str]) -> list[str]:
    """The same for annotated names; two names with different times are two clips, so they never meet."""
    timed = TIMED.fullmatch(forms[1])
    return [timed[1]] if timed else []


# (keys of a video, keys of a name), each from (path, path without ending). A rule applies to the names that no earlier
# rule settled; the likely ones only to videos that nobody claimed.
Keys = Callable[[tuple[str, str]], Iterable[str]]
OF_TAILS = (_whole_tails, _stem_tails, _stem_and_tails)
SURE: tuple[tuple[Keys, Keys], ...] = (
    (_whole, _whole),
    (_stem_only, _whole),
    (_whole_tails, _whole),
    (_stem_tails, _whole),
)
LIKELY: tuple[tuple[Keys, Keys], ...] = (
    (_stem_only, _stem_only),
    (_stem_tails, _stem_only),
    (_whole, _whole_tails),
    (_stem_only, _stem_tails),
    (_film, _stem_only),
    (_stem_and_tails, _film_of_timed),
)
