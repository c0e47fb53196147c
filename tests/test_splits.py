"""Train, val and test: whole groups, no overlap, nothing lost, the same for the same seed."""

import random
import time

import numpy as np
import pytest

from gcf.data.annotations import label_videos, read_annotations
from gcf.data.splits import Split, folds, holdout, published, straddling_groups
from gcf.data.stratify import find_units, spread
from gcf.errors import AnnotationError, UsageError


def random_data(rng: random.Random) -> tuple[list[int], list[str]]:
    """Labels and groups of many shapes: rare classes, unlabelled videos, groups of one class or of all, none at all."""
    num_classes = rng.randint(1, 6)
    num_videos = rng.choice([rng.randint(1, 8), rng.randint(8, 60)])
    weights = [rng.random() ** 3 + 0.01 for _ in range(num_classes)]
    labels = rng.choices(range(num_classes), weights, k=num_videos)
    kind = rng.choice(["none", "mixed", "by class", "few"])
    groups = {
        "none": [""] * num_videos,
        "mixed": [rng.choice(["", f"g{rng.randint(1, 12)}"]) for _ in labels],
        "by class": [f"{label}-{rng.randint(1, 5)}" for label in labels],
        "few": [f"g{rng.randint(1, 3)}" for _ in labels],
    }[kind]
    return [-1 if rng.random() < 0.1 else label for label in labels], groups


def unit_names(groups: list[str]) -> list[str]:
    return [group or f"video {i}" for i, group in enumerate(groups)]


def units_of_class(labels, groups, among) -> dict[int, set[str]]:
    names, found = unit_names(groups), {}
    for i in among:
        found.setdefault(labels[i], set()).add(names[i])
    return found


def can_spare_val(labels, groups, among) -> bool:
    """A val set is worth something as long as one of its classes is still trained."""
    return any(len(units) > 1 for units in units_of_class(labels, groups, among).values())


def assert_sound(split: Split, labels: list[int], groups: list[str], taking_part: set[int]) -> None:
    parts = [split.train, split.val, split.test]
    for part in parts:
        assert part.dtype == np.int64
        assert part.tolist() == sorted(part.tolist())
    together = [i for part in parts for i in part.tolist()]
    assert len(together) == len(set(together))
    assert set(together) == taking_part
    assert all(labels[i] >= 0 for i in together)
    assert len(split.train)
    assert len(split.val)
    names = unit_names(groups)
    homes = [{names[i] for i in part.tolist()} for part in parts]
    assert sum(map(len, homes)) == len(set.union(*homes))


def same(one: Split, other: Split) -> bool:
    return one.name == other.name and all(
        np.array_equal(getattr(one, part), getattr(other, part)) for part in ("train", "val", "test")
    )


@pytest.mark.slow
def test_holdout_is_sound_on_data_of_every_shape():
    rng, refused, losses = random.Random(0), 0, 0
    for _ in range(600):
        labels, groups = random_data(rng)
        labelled = {i for i, label in enumerate(labels) if label >= 0}
        tested = set(rng.sample(sorted(set(unit_names(groups))), k=1)) if rng.random() < 0.5 else set()
        subsets = ["test" if name in tested else "" for name in unit_names(groups)]
        training = [i for i in labelled if subsets[i] == ""]
        seed = rng.randint(0, 5)
        if not can_spare_val(labels, groups, training):
            with pytest.raises(AnnotationError):
                holdout(labels, subsets, groups, seed=seed)
            refused += 1
            continue
        split = holdout(labels, subsets, groups, seed=seed)
        assert_sound(split, labels, groups, labelled)
        assert set(split.test.tolist()) == {i for i in labelled if subsets[i] == "test"}
        assert same(split, holdout(labels, subsets, groups, seed=seed))
        trained = {labels[i] for i in split.train}
        units = units_of_class(labels, groups, training)
        assert all(label in trained for label, names in units.items() if len(names) >= 2)
        losses += any(label not in trained for label in units)
    assert 20 < refused < 300
    assert losses < 30  # only where no group can go without taking the last of a class


def test_a_class_with_one_video_trains_and_breaks_nothing():
    labels = [0] * 10 + [1] * 10 + [2]
    for seed in range(20):
        split = holdout(labels, [""] * 21, [""] * 21, seed=seed)
        assert 20 in split.train
        assert sorted(np.bincount([labels[i] for i in split.val]).tolist()) == [2, 2]
        for fold in folds(labels, [""] * 21, scheme=5, seed=seed):
            assert 20 in fold.train or 20 in fold.test


def test_val_never_takes_the_last_of_a_class_where_another_group_will_do():
    labels = [label for _ in range(10) for label in (0, 1)] * 5 + [2]
    groups = [f"g{i // 10}" for i in range(100)] + ["g0"]
    for seed in range(20):
        assert 2 in {labels[i] for i in holdout(labels, [""] * 101, groups, seed=seed).train}
    assert holdout([0, 0, 0, 0, 1], [""] * 5, ["a", "a", "a", "b", "b"]).train.tolist() == [3, 4]


def test_val_is_the_asked_share_of_every_class_where_nothing_stands_in_the_way():
    labels = np.repeat([0, 1, 2], [100, 50, 10])
    for fraction in (0.1, 0.2, 0.5):
        split = holdout(labels, [""] * 160, [""] * 160, val_fraction=fraction)
        assert np.bincount(labels[split.val]).tolist() == [round(n * fraction) for n in (100, 50, 10)]


def test_val_is_near_its_share_with_groups_of_many_sizes():
    rng = np.random.default_rng(0)
    for seed in range(20):
        labels = rng.integers(0, 4, size=400)
        groups = [f"g{g}" for g in rng.geometric(0.04, size=400)]
        split = holdout(labels, [""] * 400, groups, seed=seed)
        shares = np.bincount(labels[split.val], minlength=4) / np.bincount(labels, minlength=4)
        assert abs(len(split.val) / 400 - 0.2) < 0.03
        assert abs(shares - 0.2).max() < 0.08


def test_many_small_classes_still_give_val_its_share():
    labels = [i // 2 for i in range(100)]
    split = holdout(labels, [""] * 100, [""] * 100)
    assert 15 <= len(split.val) <= 20
    assert len({labels[i] for i in split.train}) == 50


def test_another_seed_gives_another_val():
    vals = {tuple(holdout([0, 1] * 20, [""] * 40, [""] * 40, seed=seed).val) for seed in range(10)}
    assert len(vals) > 5


def test_subsets_that_are_there_are_kept_as_they_are():
    labels, subsets = [0, 1, 0, 1, 0, 1, -1], ["train", "train", "val", "val", "test", "test", "train"]
    split = holdout(labels, subsets, [""] * 7)
    assert (split.train.tolist(), split.val.tolist(), split.test.tolist()) == ([0, 1], [2, 3], [4, 5])


def test_videos_without_subset_train_only_where_nothing_is_marked_train():
    assert set(holdout([0] * 6, ["", "", "", "", "val", "test"], [""] * 6).train) == {0, 1, 2, 3}
    assert set(holdout([0] * 6, ["train", "", "", "train", "val", "test"], [""] * 6).train) == {0, 3}


def test_too_little_to_spare_a_val_is_refused_with_a_way_out():
    for labels, groups in [([0], [""]), ([0, 1, 2], [""] * 3), ([0, 0, 1, 1], ["a", "a", "a", "a"])]:
        with pytest.raises(AnnotationError, match=r"no val can be set aside.*mark some as val"):
            holdout(labels, [""] * len(labels), groups)
    with pytest.raises(AnnotationError, match="no video has a label"):
        holdout([-1, -1], ["", ""], ["", ""])
    with pytest.raises(AnnotationError, match="no labelled video to train on"):
        holdout([0, 0, -1], ["val", "test", "train"], [""] * 3)


def test_a_group_in_two_subsets_is_refused_by_name():
    with pytest.raises(AnnotationError, match=r"1 groups lie in two subsets: 'g1' in test and train"):
        holdout([0] * 4, ["train", "test", "train", "val"], ["g1", "g1", "", ""])
    with pytest.raises(AnnotationError, match="'g1' in test and train"):
        holdout([0] * 4, ["", "test", "", "val"], ["g1", "g1", "", ""])
    with pytest.raises(AnnotationError, match=r"split 2: .*'g2' in test and train"):
        published([0] * 4, ["g1", "g2", "g2", ""], {"2": ["train", "train", "test", "val"]})
    holdout([0, 0, -1, 0], ["train", "test", "test", "val"], ["g1", "", "g1", ""])  # what never appears cannot straddle


def test_straddling_groups_are_those_in_two_subsets():
    groups, subsets = (
        ["b", "b", "a", "a", "c", "c", "", ""],
        ["val", "train", "test", "test", "", "val", "train", "test"],
    )
    assert straddling_groups(groups, subsets) == {"b": ("train", "val")}


@pytest.mark.slow
def test_folds_are_sound_on_data_of_every_shape():
    rng, tried = random.Random(1), 0
    for _ in range(300):
        labels, groups = random_data(rng)
        labelled = {i for i, label in enumerate(labels) if label >= 0}
        names = unit_names(groups)
        num_units = len({names[i] for i in labelled})
        if num_units < 3:
            continue
        scheme = (
            "group" if any(groups[i] for i in labelled) and rng.random() < 0.5 else rng.randint(2, min(6, num_units))
        )
        try:
            found = folds(labels, groups, scheme=scheme, seed=3)
        except AnnotationError as error:
            assert "no val can be set aside" in str(error)  # noqa: PT017 - either outcome is right, each has its proof
            assert min(len(units) for units in units_of_class(labels, groups, labelled).values()) < 6
            continue
        tried += 1
        assert len(found) == (num_units if scheme == "group" else scheme)
        tested = [i for fold in found for i in fold.test.tolist()]
        assert sorted(tested) == sorted(labelled)
        for fold, again in zip(found, folds(labels, groups, scheme=scheme, seed=3), strict=True):
            assert len(fold.test)
            assert_sound(fold, labels, groups, labelled)
            assert same(fold, again)
            if scheme == "group":
                trained = {labels[i] for i in fold.train}
                units = units_of_class(labels, groups, labelled)
                assert all(label in trained for label, of_class in units.items() if len(of_class) >= 3)
    assert tried > 100


def test_folds_share_out_every_class_as_evenly_as_whole_groups_allow():
    labels = np.repeat(np.arange(4), 25)
    for fold in folds(labels, [""] * 100, scheme=5):
        assert np.bincount(labels[fold.test]).tolist() == [5] * 4
    groups = [f"g{i % 25}" for i in range(100)]  # each holds one video of each class
    assert all(np.bincount(labels[f.test]).tolist() == [5] * 4 for f in folds(labels, groups, scheme=5))


@pytest.mark.slow
def test_folds_are_as_even_as_those_of_scikit_learn():
    from sklearn.model_selection import StratifiedGroupKFold

    def unevenness(labels, tests):
        counts = np.stack([np.bincount(labels[test], minlength=4) for test in tests])  # (folds, classes)
        return (counts.std(axis=0) / counts.mean(axis=0)).mean()

    rng = np.random.default_rng(0)
    ours, theirs = [], []
    for seed in range(10):
        labels = rng.choice(4, size=300, p=[0.5, 0.3, 0.15, 0.05])
        groups = rng.geometric(0.05, size=300)
        ours.append(unevenness(labels, [f.test for f in folds(labels, [f"g{g}" for g in groups], scheme=5, seed=seed)]))
        reference = StratifiedGroupKFold(5, shuffle=True, random_state=seed).split(labels, labels, groups)
        theirs.append(unevenness(labels, [test for _, test in reference]))
    assert np.mean(ours) < 1.1 * np.mean(theirs)


def test_a_class_of_three_groups_is_not_gathered_in_one_fold():
    rng = random.Random(0)
    for seed in range(50):
        labels = [rng.choice([0, 1]) for _ in range(60)] + [2] * 3
        groups = [f"g{rng.randint(1, 12)}" for _ in range(60)] + ["g1", "g2", "g3"]
        for fold in folds(labels, groups, scheme=4, seed=seed):
            assert 2 in {labels[i] for i in [*fold.train, *fold.val]}
    labels, groups = [0] * 6 + [2] + [1] * 5 + [1] * 3 + [2] + [1], ["a"] * 7 + ["b"] * 5 + ["c"] * 4 + ["d"]
    fold = spread(find_units(np.array(labels), groups), 2, rng=np.random.default_rng(0))
    assert fold[6] != fold[15]  # evenness of the larger classes alone would gather the two of class 2


@pytest.mark.parametrize(
    ("scheme", "groups", "said"),
    [
        (5, ["a", "a", "b", "b", "c", "c"], "5 folds of only 3 groups"),
        (7, [""] * 6, "7 folds of only 6 groups"),
        ("group", [""] * 6, "no video has a group"),
        ("group", ["a"] * 6, "all videos are of group 'a'"),
        ("group", ["a"] * 3 + ["b"] * 3, "split a: no val can be set aside"),
    ],
)
def test_folds_that_cannot_be_are_refused(scheme, groups, said):
    with pytest.raises(AnnotationError, match=said):
        folds([0, 1] * 3, groups, scheme=scheme)


def test_folds_of_no_kind_are_refused():
    with pytest.raises(UsageError, match="at least 2"):
        folds([0, 1], ["", ""], scheme=1)
    with pytest.raises(ValueError, match="scheme"):
        folds([0, 1], ["", ""], scheme="groups")


def test_published_splits_take_their_subsets_and_carve_val_from_train():
    labels, groups = [0, 1] * 6, [f"g{i // 2}" for i in range(12)]
    splits = {"1": ["train"] * 8 + ["test"] * 4, "2": ["test"] * 2 + [""] * 2 + ["train"] * 8}
    one, two = published(labels, groups, splits, seed=1)
    assert (one.name, two.name) == ("1", "2")
    assert_sound(one, labels, groups, set(range(12)))
    assert_sound(two, labels, groups, {0, 1, *range(4, 12)})
    assert one.test.tolist() == [8, 9, 10, 11]
    assert two.test.tolist() == [0, 1]


def test_published_splits_without_content_are_refused():
    with pytest.raises(AnnotationError, match="publish no splits"):
        published([0], [""], {})
    with pytest.raises(AnnotationError, match=r"split 1: none of its test videos"):
        published([0, 0, 0, -1], [""] * 4, {"1": ["train", "train", "train", "test"]})


def test_arguments_that_do_not_fit_together_are_programming_errors():
    with pytest.raises(ValueError, match="2 labels but 1 subsets"):
        holdout([0, 0], ["train"], ["", ""])
    with pytest.raises(ValueError, match="2 labels but 3 groups"):
        folds([0, 0], [""] * 3, scheme=2)
    with pytest.raises(ValueError, match="unknown subsets"):
        holdout([0, 0], ["training", ""], ["", ""])
    with pytest.raises(ValueError, match="val_fraction"):
        holdout([0, 0], ["", ""], ["", ""], val_fraction=1.0)


@pytest.mark.slow
def test_a_large_data_set_is_split_in_linear_time():
    labels = np.arange(40_000) % 600
    start = time.process_time()
    split = holdout(labels, [""] * len(labels), [""] * len(labels))
    assert time.process_time() - start < 10  # 0.2 s
    assert len(np.unique(labels[split.val])) == 600


def test_ut_interaction_gives_ten_folds_of_one_group(real):
    folder = real / "ut_interaction"
    ids = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.avi"))
    labelling = label_videos(ids, read_annotations(folder / "labels.csv"))
    found = folds(labelling.labels, labelling.groups, scheme="group")
    assert [fold.name for fold in found] == [str(n) for n in range(1, 11)]
    for fold in found:
        assert_sound(fold, labelling.labels.tolist(), list(labelling.groups), set(range(60)))
        assert fold.test.tolist() == [i for i in range(60) if labelling.groups[i] == fold.name]
        assert 5 <= len(fold.test) <= 7  # 6, but for one video that is labelled with another's group
        assert len({labelling.groups[i] for i in fold.val}) == 2
        assert np.bincount(labelling.labels[fold.train]).min() >= 6


def test_the_published_lists_of_ucf101_keep_groups_whole(tmp_path):
    names = [f"{c}/v_{c}_g{g:02d}_c01.avi" for c in ("Archery", "Bowling") for g in range(1, 26)]
    (tmp_path / "classInd.txt").write_text("1 Archery\n2 Bowling\n")
    for split, first in ((1, 1), (2, 8), (3, 15)):
        tests = [n for n in names if first <= int(n.split("_g")[1][:2]) < first + 7]
        (tmp_path / f"testlist0{split}.txt").write_text("\n".join(tests))
        trains = [f"{n} {1 + n.startswith('B')}" for n in names if n not in tests]
        (tmp_path / f"trainlist0{split}.txt").write_text("\n".join(trains))
    labelling = label_videos(sorted(names), read_annotations(tmp_path))
    for split in published(labelling.labels, labelling.groups, labelling.splits):
        assert_sound(split, labelling.labels.tolist(), list(labelling.groups), set(range(50)))
        assert len(split.test) == 14
    assert len(folds(labelling.labels, labelling.groups, scheme="group")) == 25
