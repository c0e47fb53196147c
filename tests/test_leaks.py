import json
import tracemalloc
from dataclasses import asdict, replace
from itertools import combinations

import numpy as np
import pytest
from caches import RECIPE, one_video

from gcf.data import duplicates
from gcf.data.duplicates import least_cosine, mean_descriptors, whiten
from gcf.data.features import FeatureFile
from gcf.data.leaks import audit_leaks
from gcf.data.schema import FeatureContent
from gcf.data.splits import Split, folds, holdout
from gcf.data.writer import write_features

VIDEOS, CLASSES = 240, 4


def videos_of(seed=0, width=96):
    """(C, 1, D) arrays of VIDEOS videos: a few strong directions that all share, classes, and what is a video's own."""
    rng = np.random.default_rng(seed)
    common, classes = 3 * rng.standard_normal((3, width)), 2 * rng.standard_normal((CLASSES, width))
    videos = []
    for n in range(VIDEOS):
        own = rng.standard_normal(3) @ common + classes[n % CLASSES] + rng.standard_normal(width)
        videos.append(own + 0.5 * rng.standard_normal((int(rng.integers(2, 9)), 1, width)))
    return videos


def cache(path, videos, *, names=None, groups=None, facts=()):
    """A feature file whose first 3 of 5 videos train, one selects, one tests; facts: video -> (size, num_frames)."""
    names = names or [f"v{n:04d}.mp4" for n in range(len(videos))]
    rows, facts = [one_video(name, array) for name, array in zip(names, videos, strict=True)], dict(facts)
    for n, row in enumerate(rows):
        size, frames = facts.get(n, (1000 + n, row.info.num_frames))
        rows[n] = replace(row, info=replace(row.info, size=size, num_frames=frames))
    order = sorted(range(len(rows)), key=lambda n: names[n])
    roles = ["train", "train", "train", "val", "test"]
    content = FeatureContent(
        recipe=RECIPE,
        videos=[rows[n] for n in order],
        labels=[n % CLASSES for n in order],
        classes=[f"class {k}" for k in range(CLASSES)],
        subsets=[roles[n % 5] for n in order],
        groups=None if groups is None else [groups[n] for n in order],
    )
    write_features(path, content)
    return FeatureFile(path)


def audit(features, splits=None, **options):
    splits = splits or [holdout(features.labels, features.subsets, [""] * features.num_videos)]
    return audit_leaks(features, splits, groups=features.groups, **options)


def test_nothing_is_found_among_different_videos(tmp_path):
    features = cache(tmp_path / "f.h5", videos_of())
    found = audit(features)
    assert (found.shared_groups, found.shared_ids, found.near_duplicates, found.notes()) == ([], [], [], [])
    assert found.checked_pairs == 48 * 192 + 48 * 144  # test with the rest, val with train
    assert 0.5 <= found.threshold < 0.6


def test_a_copy_with_the_noise_of_storage_is_found_and_named(tmp_path):
    videos = videos_of()
    videos[124] = videos[40] + 2.0**-10 * np.random.default_rng(9).standard_normal(videos[40].shape)
    found = audit(cache(tmp_path / "f.h5", videos))
    assert found.near_duplicates == [
        {
            "a": "v0124.mp4",
            "b": "v0040.mp4",
            "split": "holdout",
            "subsets": ["test", "train"],
            "similarity": pytest.approx(1, abs=1e-3),
        }
    ]
    assert found.num_near_duplicates == 1
    (note,) = found.notes()
    assert note.startswith("1 pair of videos in different subsets more alike than different videos are")
    assert "'v0124.mp4' (test) and 'v0040.mp4' (train) in split holdout" in note
    assert json.loads(json.dumps(asdict(found))) == asdict(found)


@pytest.mark.slow
def test_a_shortened_and_a_noisy_copy_are_found_and_a_copy_within_one_subset_is_none(tmp_path):
    videos, rng = videos_of(), np.random.default_rng(9)
    videos[124] = videos[40][: len(videos[40]) // 2 + 1]
    videos[59] = videos[3] + 0.5 * rng.standard_normal(videos[3].shape)
    videos[60] = videos[80]  # both train
    found = audit(cache(tmp_path / "f.h5", videos))
    pairs = {(pair["a"], pair["b"]) for pair in found.near_duplicates}
    assert pairs == {("v0124.mp4", "v0040.mp4"), ("v0059.mp4", "v0003.mp4")}
    assert [p["similarity"] for p in found.near_duplicates] == sorted(
        (p["similarity"] for p in found.near_duplicates), reverse=True
    )


@pytest.mark.slow
def test_with_folds_every_pair_is_looked_at_once_and_named_where_one_side_is_test(tmp_path):
    videos = videos_of()
    videos[124] = videos[40]
    features = cache(tmp_path / "f.h5", videos)
    splits = folds(features.labels, features.groups, scheme=4)
    found = audit(features, splits)
    (pair,) = found.near_duplicates
    assert {pair["a"], pair["b"]} == {"v0040.mp4", "v0124.mp4"}
    assert "test" in pair["subsets"]
    named = next(split for split in splits if split.name == pair["split"])
    for n, subset in ((pair["a"], pair["subsets"][0]), (pair["b"], pair["subsets"][1])):
        assert features.ids.index(n) in getattr(named, subset)
    assert found.checked_pairs == VIDEOS * (VIDEOS - 1) // 2


def test_folds_that_keep_a_copy_with_its_original_leak_nothing(tmp_path):
    videos = videos_of()
    videos[124] = videos[40]
    groups = ["pair" if n in (40, 124) else "" for n in range(VIDEOS)]
    features = cache(tmp_path / "f.h5", videos, groups=groups)
    found = audit(features, folds(features.labels, features.groups, scheme=4))
    assert found.near_duplicates == []


@pytest.mark.slow
def test_the_list_ends_after_fifty_and_the_count_does_not(tmp_path):
    videos = videos_of()
    for n in range(4, 240, 4):
        videos[n] = videos[n - 1]  # 60 copies, of which those in another subset count
    features = cache(tmp_path / "f.h5", videos)
    crossing = sum(features.subsets[n] != features.subsets[n - 1] for n in range(4, 240, 4))
    found = audit(features, labels=np.arange(240) // 2 % CLASSES)
    assert found.num_near_duplicates == crossing
    assert len(found.near_duplicates) == min(50, crossing)
    everywhere = audit(features, folds(features.labels, features.groups, scheme=120))
    assert (everywhere.num_near_duplicates, len(everywhere.near_duplicates)) == (59, 50)


def plainly(features, splits, labels):
    """The near-duplicates pair by pair, as the audit is to give them, and how many there are."""
    vectors = whiten(mean_descriptors(features, np.arange(features.num_videos)), labels)
    least, found = least_cosine(vectors.shape[1], VIDEOS * (VIDEOS - 1) // 2), []
    for n, other in combinations(range(VIDEOS), 2):
        if (cosine := float(vectors[n] @ vectors[other])) < least:
            continue
        roles = [[role_of(split, video) for video in (n, other)] for split in splits]
        apart = [k for k, (one, two) in enumerate(roles) if one and two and one != two]
        apart.sort(key=lambda k: "test" not in roles[k])  # the sort is stable
        if apart:
            names, subsets = [features.ids[n], features.ids[other]], roles[apart[0]]
            found.append(dict(zip("ab", names, strict=True), split=splits[apart[0]].name, subsets=subsets))
            found[-1]["similarity"] = round(cosine, 4)
    return sorted(found, key=lambda pair: (-pair["similarity"], pair["a"], pair["b"])), len(found)


def role_of(split, video):
    return next((role for role in ("train", "val", "test") if video in getattr(split, role)), "")


@pytest.mark.slow
@pytest.mark.parametrize("block", [1, 1000, 1 << 22])
def test_counted_with_arrays_the_audit_gives_what_looking_pair_by_pair_gives(block, tmp_path, monkeypatch):
    monkeypatch.setattr(duplicates, "BLOCK_BYTES", block)
    videos, rng = videos_of(), np.random.default_rng(3)
    for n in rng.permutation(VIDEOS)[:90].tolist():  # copies of three, some of them with the noise of a new coding
        videos[n] = videos[n % 3] + rng.integers(2) * 0.1 * rng.standard_normal(videos[n % 3].shape)
    features = cache(tmp_path / "f.h5", videos)
    labels = rng.integers(2, size=VIDEOS)
    splits = folds(labels, features.groups, scheme=5)
    expected, count = plainly(features, splits, labels)
    found = audit(features, splits, labels=labels)
    assert found.num_near_duplicates == count > 500
    assert [pair | {"similarity": 0} for pair in found.near_duplicates] == [
        pair | {"similarity": 0} for pair in expected[:50]
    ]
    assert [pair["similarity"] for pair in found.near_duplicates] == pytest.approx(
        [pair["similarity"] for pair in expected[:50]], abs=1e-4
    )


@pytest.mark.slow
def test_millions_of_copies_are_counted_and_fifty_held(tmp_path):
    """Half of 1,600 videos are one blank clip under one name: 320,000 pairs, of which records are made of fifty."""
    count, rng = 1600, np.random.default_rng(0)
    blank = np.zeros((1, 1, 64))
    videos = [blank if n % 2 else rng.standard_normal((1, 1, 64)) for n in range(count)]
    names = [f"{n:04d}/blank.mp4" if n % 2 else f"{n:04d}.mp4" for n in range(count)]
    features = cache(tmp_path / "f.h5", videos, names=names, facts=dict.fromkeys(range(count), (7, 16)))
    roles = [features.subsets[n] for n in range(1, count, 2)]
    apart = sum(one != other for one, other in combinations(roles, 2))
    tracemalloc.start()
    found = audit(features, labels=np.full(count, -1))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.num_near_duplicates == found.num_shared_ids == apart
    assert len(found.near_duplicates) == len(found.shared_ids) == 50
    assert peak < 60e6  # with a record for each pair it was 112 MB


def test_the_same_file_in_another_folder_or_under_another_ending_is_named(tmp_path):
    names = [f"a/v{n:04d}.mp4" for n in range(VIDEOS)]
    names[124], names[59], names[64] = "b/v0040.mp4", "a/v0003.avi", "b/v0001.mp4"
    facts = {40: (7, 32), 124: (7, 32), 3: (9, 48), 59: (9, 48), 1: (5, 16), 64: (6, 16)}  # the last differ in size
    found = audit(cache(tmp_path / "f.h5", videos_of(), names=names, facts=facts))
    assert {(p["a"], p["b"], *p["subsets"]) for p in found.shared_ids} == {
        ("a/v0003.avi", "a/v0003.mp4", "test", "val"),
        ("a/v0040.mp4", "b/v0040.mp4", "train", "test"),
    }
    assert found.num_shared_ids == 2
    assert "2 pairs of videos of the same name, size and number of frames" in found.notes()[0]


def test_a_group_in_two_subsets_is_named(tmp_path):
    groups = [f"g{n // 2}" if n < 10 else "" for n in range(VIDEOS)]
    features = cache(tmp_path / "f.h5", videos_of(), groups=groups)
    roles = {"train": [0, 2, 3], "val": [4, 5], "test": [1, 8]}
    split = Split("mine", **{name: np.array(videos) for name, videos in roles.items()})
    found = audit(features, [split])
    assert found.shared_groups == [{"group": "g0", "split": "mine", "subsets": ["test", "train"]}]
    assert found.notes() == ["Groups lie in several subsets of a split: 'g0' (test and train)."]


def test_too_few_videos_are_not_judged_alike(tmp_path):
    features = cache(tmp_path / "f.h5", videos_of()[:8])
    split = Split("small", np.arange(4), np.arange(4, 6), np.arange(6, 8))
    found = audit(features, [split])
    assert (found.threshold, found.checked_pairs, found.near_duplicates) == (None, 0, [])


def test_videos_that_a_network_puts_in_one_place_by_class_are_not_taken_for_copies(tmp_path):
    rng, classes = np.random.default_rng(0), np.arange(VIDEOS) % 24
    videos = list((50 * rng.standard_normal((24, 16))[classes] + rng.standard_normal((VIDEOS, 16)))[:, None, None])
    videos[124] = videos[100] + 1e-3  # of one class, as all that are 24 apart
    features = cache(tmp_path / "f.h5", videos)
    (pair,) = audit(features, labels=classes).near_duplicates
    assert {pair["a"], pair["b"]} == {"v0124.mp4", "v0100.mp4"}
    assert audit(features, labels=np.full(VIDEOS, -1)).num_near_duplicates > 100


def test_two_copies_that_are_all_of_a_class_are_found(tmp_path):
    videos, labels = videos_of(), np.arange(VIDEOS) % CLASSES
    videos[124], labels[[124, 40]] = videos[40] + 0.01 * videos[3][:1], CLASSES
    assert audit(cache(tmp_path / "f.h5", videos), labels=labels).num_near_duplicates == 1


@pytest.mark.slow
def test_the_bound_is_passed_by_chance_once_in_a_hundred_sets():
    rng, over = np.random.default_rng(0), 0
    bound = least_cosine(5, 1225)  # of fifty directions
    for _ in range(2000):
        vectors = rng.standard_normal((50, 5))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        over += ((vectors @ vectors.T)[np.triu_indices(50, 1)] >= bound).any()
    assert over / 2000 == pytest.approx(0.01, abs=0.007)  # three standard deviations


def test_features_without_any_difference_have_no_axes():
    assert whiten(np.ones((30, 8), dtype=np.float32), np.arange(30) % 2).shape == (30, 0)
    assert least_cosine(0, 100) is None
