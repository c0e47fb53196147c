"""Finding the videos that annotated names stand for."""

import random
import time
import tracemalloc
from dataclasses import replace

import pytest

from gcf.data.annotations import Annotation, Annotations, label_videos
from gcf.data.matching import match_names
from gcf.errors import AnnotationError


def named(**labels: str | None) -> Annotations:
    """Annotations from path=label; '__' stands for a slash, '_dot_' for a dot."""
    videos = {name.replace("__", "/").replace("_dot_", "."): Annotation(label) for name, label in labels.items()}
    return Annotations("labels.csv", tuple(sorted({x for x in labels.values() if x})), videos)


def plain(*names: str) -> Annotations:
    return Annotations("labels.csv", names, {name: Annotation(name) for name in names})


def test_a_name_matches_by_path_then_without_ending_then_by_its_last_parts():
    ids = ["a/x.mp4", "b/x.mp4", "b/y.avi", "c/b/z.mkv", "take.1", "take.2"]
    names = ["b/x.mp4", "a/x", "y.avi", "./b//z", "take.2"]
    labelling = label_videos(ids, plain(*names))
    assert [names[i] if i >= 0 else None for i in labelling.labels] == [
        "a/x",
        "b/x.mp4",
        "y.avi",
        "./b//z",
        None,
        "take.2",
    ]
    assert labelling.missing == ()
    assert labelling.unlabelled == ("take.1",)


def test_names_from_another_root_or_from_windows_are_found():
    labelling = label_videos(["walk/01.avi", "run/01.avi"], plain("/data/old/run/01.avi", "D:\\videos\\walk\\01.avi"))
    assert labelling.labels.tolist() == [1, 0]


def test_folders_that_contradict_each_other_never_match():
    labelling = label_videos(["walking/001.avi"], plain("running/001.avi"))
    assert labelling.missing == ("running/001.avi",)
    assert labelling.unlabelled == ("walking/001.avi",)


def test_a_name_that_fits_two_videos_is_refused_naming_both_unless_a_longer_path_settles_it():
    ids = ["a/x.mp4", "b/x.mp4"]
    for name in ("x.mp4", "x"):
        with pytest.raises(AnnotationError, match=r"labels\.csv: '\S+' may be 'a/x\.mp4' or 'b/x\.mp4'"):
            label_videos(ids, plain(name))
    assert label_videos(ids, plain("b/x.mp4")).labels.tolist() == [-1, 0]
    assert label_videos(["x.mp4", *ids], plain("x.mp4")).labels.tolist() == [0, -1, -1]


def test_two_names_of_one_video_must_agree():
    with pytest.raises(AnnotationError, match=r"'a/x\.mp4' and 'x' both mean 'a/x\.mp4'.*label 'walk' against 'run'"):
        label_videos(["a/x.mp4"], named(x="run", a__x_dot_mp4="walk"))
    assert label_videos(["a/x.mp4"], named(x="run", a__x_dot_mp4="run")).missing == ()
    splits = {"1": {"x": "train", "a/x": "train"}, "2": {"x": "test", "a/x": "train"}}
    with pytest.raises(AnnotationError, match="different subsets of split 2"):
        label_videos(["a/x.mp4"], replace(named(x="run", a__x="run"), splits=splits))


def test_a_video_of_its_own_name_is_not_claimed_by_an_absent_one_in_a_folder():
    labelling = label_videos(["x.mp4"], named(x_dot_mp4="run", sub__x_dot_mp4="walk", x_dot_avi="jump"))
    assert labelling.classes[labelling.labels[0]] == "run"
    assert labelling.missing == ("sub/x.mp4", "x.avi")


def plain_match(ids: list[str], names: list[str]) -> dict[str, str] | None:
    """The rules of matching by trying every pair; None where a name is ambiguous."""

    def stem(path):
        return path[:-4] if path.endswith((".mp4", ".avi")) else path

    def longest(found):
        most = max(map(len, map(stem, found)), default=0)
        return [x for x in found if len(stem(x)) == most]

    found = {}

    def settle(rules, videos):
        for name in names:
            candidates = [] if name not in found else None
            for rule in rules if candidates is not None else ():
                candidates = candidates or rule(name, videos)
            if candidates and len(candidates) > 1:
                return False
            if candidates:
                found[name] = candidates[0]
        return True

    sure = [
        lambda n, v: [x for x in v if x == n],
        lambda n, v: [x for x in v if stem(x) == n],
        lambda n, v: [x for x in v if x.endswith("/" + n)],
        lambda n, v: [x for x in v if stem(x).endswith("/" + n)],
    ]
    likely = [
        lambda n, v: [x for x in v if stem(x) == stem(n)],
        lambda n, v: [x for x in v if stem(x).endswith("/" + stem(n))],
        lambda n, v: longest([x for x in v if n.endswith("/" + x)]),
        lambda n, v: longest([x for x in v if stem(n).endswith("/" + stem(x))]),
    ]
    if not settle(sure, ids):
        return None
    claimed = set(found.values())
    return found if settle(likely, [x for x in ids if x not in claimed]) else None


@pytest.mark.slow
def test_matching_agrees_with_trying_every_pair():
    rng = random.Random(0)
    outcomes = {"matched": 0, "missing": 0, "ambiguous": 0}

    def path():
        folders = [rng.choice("ab") for _ in range(rng.randint(0, 2))]
        return "/".join([*folders, rng.choice("xyz") + rng.choice([".mp4", ".avi", "", ".1"])])

    for _ in range(3000):
        ids, names = ([path() for _ in range(rng.randint(1, 4))] for _ in range(2))
        ids, names = sorted(set(ids)), sorted(set(names))
        expected = plain_match(ids, names)
        try:
            found = match_names(ids, names, source="labels.csv")
        except AnnotationError:
            found = None
            outcomes["ambiguous"] += 1
        else:
            outcomes["matched"] += len(found)
            outcomes["missing"] += len(names) - len(found)
            found = {name: ids[i] for name, i in found.items()}
        assert found == expected, (ids, names)
    assert min(outcomes.values()) > 50, outcomes


@pytest.mark.slow
def test_matching_takes_linear_time_even_where_all_base_names_are_equal():
    ids = [f"{i}/video.mp4" for i in range(20_000)]
    start = time.process_time()
    labelling = label_videos(ids, Annotations("x", ("c",), {f"root/{i}": Annotation("c") for i in ids}))
    assert time.process_time() - start < 10  # 0.4 s; comparing each with each takes minutes
    assert labelling.missing == ()


def test_ids_that_repeat_are_a_programming_error():
    with pytest.raises(ValueError, match="differ"):
        label_videos(["a.mp4", "a.mp4"])


def test_another_clip_of_the_same_film_is_not_taken_for_the_annotated_one():
    names = ("abc_000010_000020", "walk/cam_000010_000020")
    assert label_videos(["abc_000030_000040.mp4", "run/cam.mp4"], plain(*names)).missing == names


def test_bare_film_names_find_cut_and_prefixed_files_but_not_in_other_folders():
    ids = ["a/QOlSCBRmfWY_000010_000020.mp4", "v_4Lu8ECLHvK4.mp4", "run/cam1_000010_000020.mp4"]
    labelling = label_videos(ids, plain("QOlSCBRmfWY", "4Lu8ECLHvK4", "walk/cam1"))
    assert labelling.labels.tolist() == [0, 1, -1]
    with pytest.raises(AnnotationError, match=r"abc_000010_000020.*abc_000030_000040"):
        label_videos(["abc_000010_000020.mp4", "abc_000030_000040.mp4"], plain("abc"))


def peak_of_matching(ids, names) -> int:
    tracemalloc.start()
    try:
        match_names(ids, names, source="labels.csv")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
@pytest.mark.parametrize("long", ["ids", "names"])
def test_memory_of_long_paths_does_not_grow_with_the_square_of_their_length(long):
    paths = [f"{'/a' * 2000}/{n}.avi"[1:] for n in range(50)]
    others = [f"{n}.mp4" for n in range(1000, 1050)]
    ids, names = (paths, others) if long == "ids" else (others, paths)
    assert peak_of_matching(ids, names) < 20 * sum(map(len, paths))  # all their tails are 2,000 times as much


def test_long_paths_are_still_found_by_their_tails():
    deep = "/".join(["a"] * 2000)
    assert match_names([f"{deep}/x.avi", f"{deep}/y.avi"], ["x.avi", "a/a/y"], source="l") == {"x.avi": 0, "a/a/y": 1}
    assert match_names(["a/a/x.avi"], [f"{deep}/x.avi"], source="l") == {f"{deep}/x.avi": 0}
