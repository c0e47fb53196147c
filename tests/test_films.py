"""HMDB-51: groups are films within classes; films in train and in test of its lists are counted."""

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from caches import RECIPE, one_video

from gcf.data.annotations import label_videos, read_annotations
from gcf.data.features import FeatureFile
from gcf.data.films import film_group, film_of, shared_films
from gcf.data.schema import FeatureContent
from gcf.data.splits import folds, holdout, published
from gcf.data.writer import write_features
from gcf.errors import AnnotationError
from gcf.head.ablation import ablate
from gcf.head.fitting.labelled import film_notes, label_features, make_splits
from gcf.head.models.config import Protocol
from gcf.head.tables.summary import independent_units
from gcf.head.training import train_head

LABELS = ("draw_sword", "sword", "sword_exercise", "clap")
KENDO, TROY = "Kendo_sword", "Troy_[2004]_clap"
OTHER_CLASS = "{} with videos in train under one class and in test under another"
SAME_CLASS = "{} with videos in train and in test under the same class"


def shared(split: str, *counts: str) -> str:
    return f"split {split} shares films between train and test: {', '.join(counts)}"


def video(film: str, label: str, number: int) -> str:
    """A name as HMDB-51 writes it."""
    body, motion = "fhlu"[number % 4], ("cm", "nm")[number % 2]
    camera, quality = ("ba", "fr", "le", "ri")[number % 4], ("goo", "med", "bad")[number % 3]
    return f"{film}_{label}_{body}_{motion}_np{number % 11}_{camera}_{quality}_{number}.avi"


def write_lists(folder, codes: dict[tuple[str, int], dict[str, str]]):
    """codes[class, split][film]: a digit, 0, 1 or 2, for each video of the film."""
    for (label, split), films in codes.items():
        coded = [(film, n, code) for film, digits in films.items() for n, code in enumerate(digits)]
        lines = [f"{video(film, label, n)} {code} \n" for film, n, code in coded]
        path = folder / f"{label}_test_split{split}.txt"
        path.write_text("".join(lines), encoding="utf-8")
    return folder


def films_of(label: str) -> list[str]:
    """Films with odd names, most of which other classes have, too."""
    odd = "#20_Rhythm|_Kill Bill_(1)|Brushing!!!!|dé_jà.vu|How_to|how_to|Iaido_draw".split("|")
    return [KENDO, TROY, *odd, *(f"{label}_{n}" for n in range(12))]


@pytest.fixture
def lists(tmp_path):
    """Three splits, each of which has every film of a class on one side.

    The first two have Kendo and Troy in train under one class and in test under another.
    """
    codes = {}
    for label, split in itertools.product(LABELS, (1, 2, 3)):
        films = films_of(label)
        tested = [film for n, film in enumerate(films) if n % 3 == split - 1]
        sides = {film: "22022" if film in tested else "11011" for film in films}
        sides |= {KENDO: "0", TROY: "0"}
        if label == "sword" and split < 3:
            sides |= {KENDO: "2", TROY: "1"}
        if label == "draw_sword":
            sides |= {KENDO: "1", TROY: "2"}
        codes[label, split] = sides
    return write_lists(tmp_path, codes)


@pytest.mark.parametrize(
    ("name", "label", "film"),
    [
        ("April_09_brush_hair_u_nm_np1_ba_goo_0.avi", "brush_hair", "April_09"),
        ("#20_Rhythm_clap_u_nm_np1_fr_goo_0.avi", "clap", "#20_Rhythm"),
        ("clap/_Boom__yes_clap_u_nm_np1_fr_med_1.mp4", "clap", "_Boom__yes"),
        ("brushing_hair_brush_hair_f_cm_np2_ri_goo_0.avi", "brush_hair", "brushing_hair"),
        ("LetsBeGo1953_stand_u_nm_np10_ba_med_4.avi", "stand", "LetsBeGo1953"),
        ("Boom_Snap_Clap_clap_u_nm_np1_fr_med_0.avi", "clap", "Boom_Snap_Clap"),
        ("a_clap_u_nm_np1_fr_goo_0_clap_l_cm_np0_le_bad_124", "clap", "a_clap_u_nm_np1_fr_goo_0"),
        ("a film, vol. 2_clap_h_cm_np1_ri_med_3.avi", "clap", "a film, vol. 2"),
        ("Iaido_draw_sword_f_cm_np2_le_med_1.avi", "draw_sword", "Iaido"),
        ("Iaido_draw_sword_f_cm_np2_le_med_1.avi", "sword", "Iaido_draw"),
        ("Iaido_draw_sword_f_cm_np2_le_med_1.avi", None, ""),
        ("April_09_brush_hair_u_nm_np1_ba_goo.avi", "brush_hair", ""),
        ("April_09_brush_hair_x_nm_np1_ba_goo_0.avi", "brush_hair", ""),
        ("v_Archery_g07_c03.avi", "Archery", ""),
    ],
)
def test_the_film_is_what_stands_before_the_class_and_the_group_names_both(name, label, film):
    assert film_of(name, label) == film
    assert film_group(name, label) == (f"{label}/{film}" if film else "")


def test_two_groups_are_one_only_where_film_and_class_are():
    rng = random.Random(3)
    words = ["sword", "draw", "exercise", "u", "nm", "np1", "Sword", "", "[1]", "é"]
    meant = {}
    for _ in range(2000):
        film = "_".join(["a", *rng.choices(words, k=rng.randint(0, 3))])
        label = rng.choice(LABELS)
        group = film_group(video(film, label, rng.randrange(200)), label)
        assert meant.setdefault(group, (film, label)) == (film, label)


def test_lists_and_folders_give_films_and_a_group_column_comes_first(lists):
    annotations = read_annotations(lists)
    names = [f"{a.label}/{name}" for name, a in annotations.videos.items()]
    ids = sorted(name.replace(".avi", ".mp4") for name in names)
    labelling = label_videos(ids, annotations)
    assert labelling.missing == ()
    assert set(labelling.groups) == {f"{k}/{film}" for k in LABELS for film in films_of(k)}
    for group, name in zip(labelling.groups, ids, strict=True):
        assert name.startswith(f"{group}_{group.split('/')[0]}_")
    assert label_videos(ids).groups == labelling.groups
    by_day = {name: replace(a, group="monday") for name, a in annotations.videos.items()}
    assert set(label_videos(ids, replace(annotations, videos=by_day)).groups) == {"monday"}


def films_divided(split, data, ids) -> int:
    """Films of a class with videos on two sides of a split, told from the names by hand."""
    sides = {}
    for side in ("train", "val", "test"):
        for n in getattr(split, side):
            label = data.classes[data.labels[n]]
            film = ids[n].rsplit(f"_{label}_", 1)[0]
            sides.setdefault((label, film), set()).add(side)
    return sum(len(found) > 1 for found in sides.values())


@pytest.mark.parametrize("number", ["1", "2", "3"])
def test_no_film_of_a_class_is_on_two_sides_of_a_carved_val(lists, number):
    annotations = read_annotations(lists, split=number)
    ids = sorted(annotations.videos)
    data = label_videos(ids, annotations)
    split = holdout(data.labels, data.subsets, data.groups)
    assert films_divided(split, data, ids) == 0
    assert 0.1 < len(split.val) / (len(split.train) + len(split.val)) < 0.3
    through_films = holdout(data.labels, data.subsets, [""] * len(ids))
    assert films_divided(through_films, data, ids) > 10
    (official,) = [s for s in published(data.labels, data.groups, data.splits) if s.name == number]
    assert films_divided(official, data, ids) == 0
    assert len(official.test) == sum(subset == "test" for subset in data.subsets)


@pytest.mark.slow
def test_folds_keep_the_films_of_a_class_whole(lists):
    annotations = read_annotations(lists)
    ids = sorted(annotations.videos)
    data = label_videos(ids, annotations)
    for split in folds(data.labels, data.groups, scheme=5):
        assert films_divided(split, data, ids) == 0
    one_out = folds(data.labels, data.groups, scheme="group")
    assert {split.name for split in one_out} == set(data.groups)
    assert {films_divided(split, data, ids) for split in one_out} == {0}


def pairs_across(videos) -> tuple[int, int]:
    """What `shared_films` counts, by looking at every pair of videos."""
    films = {True: set(), False: set()}
    for (film, label, subset), (other, second, side) in itertools.product(videos, repeat=2):
        if film and film == other and (subset, side) == ("train", "test"):
            films[label == second].add(film)
    return len(films[False]), len(films[True])


def test_shared_films_are_those_of_pairs_of_videos_in_train_and_test():
    rng = random.Random(7)
    films, subsets = ("", "Glory", "Troy", "glory"), ("train", "test", "val", "")
    for _ in range(400):
        count = rng.randint(0, 40)
        videos = [(rng.choice(films), rng.choice("abc"), rng.choice(subsets)) for _ in range(count)]
        assert shared_films(videos) == pairs_across(videos)


def test_films_that_the_lists_share_between_classes_are_counted_for_the_chosen_split(lists):
    for number, count in (("1", 2), ("2", 2), ("3", 0)):
        annotations = read_annotations(lists, split=number)
        named = [(film_of(n, a.label), a.label, a.subset) for n, a in annotations.videos.items()]
        assert pairs_across(named) == (count, 0)
        expected = [f"{lists}: {shared(number, OTHER_CLASS.format(count))}"] if count else []
        assert [note for note in annotations.notes if "shares films" in note] == expected


def features_of(path, annotations) -> FeatureFile:
    """A feature file of the annotated videos, unlabelled; clips are class direction and noise."""
    rng = np.random.default_rng(2)
    directions = dict(zip(annotations.classes, 3 * np.eye(8), strict=False))
    rows = []
    for name in sorted(annotations.videos, key=str.encode):
        clips = directions[annotations.videos[name].label] + rng.standard_normal((3, 8))
        rows.append(one_video(name, clips[:, None]))
    write_features(path, FeatureContent(recipe=RECIPE, videos=rows))
    return FeatureFile(path)


def told(run) -> list[str]:
    return [note for note in run.metrics["notes"] if "shares films" in note]


@pytest.mark.slow
def test_runs_count_the_shared_films_of_every_split_that_they_use(lists, tmp_path):
    features = features_of(tmp_path / "f.h5", read_annotations(lists))
    options = {"annotations": lists, "audit": False, "epochs": 1}
    sentences = [f"S{shared(split, OTHER_CLASS.format(2))[1:]}." for split in ("holdout", "1", "2")]
    assert told(train_head(features, head="mean", **options)) == sentences[:1]
    compared = ablate(features, heads=["mean"], seeds=2, cv="official", **options)
    assert told(compared) == sentences[1:]
    assert any("take groups as independent" in note for note in compared.metrics["notes"])
    data = label_features(features, lists)
    protocol = Protocol(cv=2)
    assert film_notes(data, protocol, make_splits(data, protocol)) == []


def test_statistics_take_the_films_of_a_class_as_units(lists, tmp_path):
    data = label_features(features_of(tmp_path / "f.h5", read_annotations(lists)), lists)
    units, _ = independent_units(data)
    assert set(units) == {f"{label}/{film}" for label in LABELS for film in films_of(label)}


@pytest.fixture
def divided(tmp_path):
    """Lists that themselves have films of a class on two sides: Glory twice, Troy in the first."""
    films = {f"film {n}": "111" if n % 3 else "22" for n in range(9)}
    codes = {
        ("clap", 1): films | {"Glory": "1122", "Troy": "21"},
        ("clap", 2): films | {"Glory": "1222", "Troy": "22"},
        ("hit", 1): films | {"Troy": "1"},
        ("hit", 2): films | {"Troy": "0"},
    }
    return write_lists(tmp_path, codes)


def test_films_that_the_lists_themselves_divide_are_counted_and_not_refused(divided, tmp_path):
    annotations = read_annotations(divided)
    counts = OTHER_CLASS.format(1), SAME_CLASS.format(2)
    assert annotations.notes == (f"{divided}: {shared('1', *counts)}",)
    data = label_features(features_of(tmp_path / "f.h5", annotations), annotations)
    ids = data.features.ids
    for protocol in (Protocol(), Protocol(cv="official")):
        for split in make_splits(data, protocol):
            assert films_divided(split, data, ids) == (1 if split.name == "2" else 2)
            carved = replace(split, test=split.test[:0])
            assert len(carved.val)
            assert films_divided(carved, data, ids) == 0
    for split in make_splits(data, Protocol(cv=3)):
        assert films_divided(split, data, ids) == 0


def test_own_groups_in_two_subsets_are_refused_beside_lists_too(divided, tmp_path):
    annotations = read_annotations(divided)
    data = label_features(features_of(tmp_path / "f.h5", annotations), annotations)
    for protocol in (Protocol(), Protocol(cv="official")):
        with pytest.raises(AnnotationError, match="'monday' in test and train"):
            make_splits(replace(data, groups=["monday"] * len(data.labels)), protocol)


@pytest.mark.parametrize(
    ("column", "cell", "group"), [("", "", "clap/Glory"), (",group", ",monday", "monday")]
)  # fmt: skip
def test_own_subsets_that_divide_a_group_are_refused(divided, tmp_path, column, cell, group):
    annotations = read_annotations(divided)
    rows = [f"{name},{a.label},{a.subset}{cell}\n" for name, a in annotations.videos.items()]
    own = tmp_path / "own.csv"
    own.write_text(f"path,label,subset{column}\n" + "".join(rows), encoding="utf-8")
    data = label_features(features_of(tmp_path / "f.h5", annotations), own)
    with pytest.raises(AnnotationError, match=f"'{group}' in test and train"):
        make_splits(data, Protocol())
