"""The films that HMDB-51's videos were cut from, as the names of the files tell."""

import re
from collections import defaultdict
from collections.abc import Iterable

# FILM_CLASS_body_motion_people_camera_quality_number.avi, in the words of the data set's page.
# A film may be called anything and a class may have underscores: only the end of a name is sure, so
# that the class must be known.
HMDB51_NAME = re.compile(
    r"([^/]+)_[fhlu]_[cn]m_np\d+_(?:ba|fr|le|ri)_(?:goo|med|bad)_\d+(?:\.[^/.]+)?",
    re.IGNORECASE,
)


def film_of(video: str, label: str | None) -> str:
    """The film of a video of class `label`, '' without a class or where the name is not HMDB-51's.

    >>> film_of("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair")
    'April_09'
    """
    match = HMDB51_NAME.fullmatch(video.rpartition("/")[2])
    if match is None or label is None:
        return ""
    return match[1].removesuffix(f"_{label}")


def film_group(video: str, label: str | None) -> str:
    """The group of a video of HMDB-51, its film within its class, '' where `film_of` knows none.

    Written CLASS/FILM: no file's name has a slash, so that two films, or one film in two classes,
    never look alike.

    >>> film_group("Iaido_draw_sword_f_cm_np2_le_med_1.avi", "draw_sword")
    'draw_sword/Iaido'
    """
    film = film_of(video, label)
    return f"{label}/{film}" if film else ""


def shared_films(videos: Iterable[tuple[str, str, str]]) -> tuple[int, int]:
    """How many films lie both in train and in test, under two classes, and under one.

    videos: (film, class, subset) of each; films are told apart by name alone. The first figure
    counts the films of which some video is in train and some video of another class in test, the
    second those of which a video is in train and another of the same class in test; a film may be
    in both. Videos without a film ('') or in another subset do not count.

    >>> shared_films([("Glory", "hit", "train"), ("Glory", "clap", "test"), ("21", "hit", "test")])
    (1, 0)
    """
    train: dict[str, set[str]] = defaultdict(set)
    test: dict[str, set[str]] = defaultdict(set)
    sides = {"train": train, "test": test}
    for film, label, subset in videos:
        if film and subset in sides:
            sides[subset][film].add(label)
    both = [(train[film], test[film]) for film in train.keys() & test.keys()]
    across = sum(len(trained | tested) > 1 for trained, tested in both)
    within = sum(not trained.isdisjoint(tested) for trained, tested in both)
    return across, within


def shared_films_note(split: str, videos: Iterable[tuple[str, str, str]]) -> list[str]:
    """A sentence, without its full stop, on the `shared_films` of a split that is given, if any."""
    across, within = shared_films(videos)
    counts = []
    if across:
        counts.append(f"{across} with videos in train under one class and in test under another")
    if within:
        counts.append(f"{within} with videos in train and in test under the same class")
    if not counts:
        return []
    return [f"split {split} shares films between train and test: {', '.join(counts)}"]
