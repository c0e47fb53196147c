import numpy as np
import pytest
import torch
from caches import easy_cache, write_cache
from compare import assert_bitwise_equal
from stage_two import clip_batches

from gcf.errors import FeatureFileError
from gcf.head.fitting import finite, residency
from gcf.head.fitting.finite import check_finite
from gcf.head.models.sampling import choose_clips

RNG = np.random.default_rng


@pytest.mark.parametrize("policy", ["uniform", "first", "random"])
def test_a_video_with_no_more_clips_than_slots_gives_them_all_in_order_and_loops(policy):
    indices, mask = choose_clips(np.array([3, 10, 1]), 10, policy, rng=RNG(0))
    assert indices.tolist() == [[0, 1, 2, 0, 1, 2, 0, 1, 2, 0], list(range(10)), [0] * 10]
    assert mask.sum(axis=1).tolist() == [3, 10, 1]
    assert mask[0].tolist() == [True] * 3 + [False] * 7


@pytest.mark.parametrize("policy", ["uniform", "first", "random"])
def test_loop_repeats_a_short_video_as_real_clips_whatever_the_others_have(policy):
    three = [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    for counts in ([3], [3, 1], [3, 10], [3, 40]):
        indices, mask = choose_clips(np.array(counts), 10, policy, padding="loop", rng=RNG(0))
        assert indices[0].tolist() == three
        assert mask.tolist() == [[True] * 10] * len(counts)


@pytest.mark.parametrize("policy", ["uniform", "first", "random"])
def test_loop_leaves_a_longer_video_as_it_is(policy):
    counts = np.array([10, 11, 40])
    looped = choose_clips(counts, 10, policy, padding="loop", rng=RNG(0))
    masked = choose_clips(counts, 10, policy, rng=RNG(0))
    assert [part.tolist() for part in looped] == [part.tolist() for part in masked]


def test_loop_leaves_the_central_clip_alone_and_has_no_number_for_all():
    for padding in ("mask", "loop"):
        indices, mask = choose_clips(np.array([2, 5]), 10, "central", padding=padding)
        assert (indices.tolist(), mask.tolist()) == ([[0], [2]], [[True], [True]])
    with pytest.raises(ValueError, match="no number of clips to loop to"):
        choose_clips(np.array([2, 5]), 10, "all", padding="loop")


def test_uniform_takes_the_middles_of_equal_parts():
    for count in (11, 20, 37, 1000):
        chosen = choose_clips(np.array([count]), 10, "uniform")[0][0]
        parts = [range(count * i // 10, -(-count * (i + 1) // 10)) for i in range(10)]
        assert all(clip in part for clip, part in zip(chosen, parts, strict=True))
        assert len(set(chosen)) == 10
        assert abs(chosen[0] - (count - 1 - chosen[-1])) <= 1  # as far from the start as from the end


def test_first_takes_the_first_and_all_takes_all():
    assert choose_clips(np.array([30]), 4, "first")[0].tolist() == [[0, 1, 2, 3]]
    indices, mask = choose_clips(np.array([30, 2]), 4, "all")
    assert indices[0].tolist() == list(range(30))
    assert mask.sum(axis=1).tolist() == [30, 2]


def test_random_takes_distinct_clips_in_order_each_as_often():
    seen = np.zeros(12)
    rng = RNG(0)
    for _ in range(400):
        chosen = choose_clips(np.array([12, 4, 40]), 5, "random", rng=rng)[0][0]  # a longer one gives no more places
        assert (np.diff(chosen) > 0).all()
        seen[chosen] += 1
    assert seen.sum() == 2000
    assert abs(seen - 2000 / 12).max() < 4 * np.sqrt(400 * 5 / 12 * 7 / 12)  # four standard deviations


def test_random_without_a_generator_is_a_programming_error():
    with pytest.raises(ValueError, match="needs a generator"):
        choose_clips(np.array([12]), 5, "random")


def features_with_views(tmp_path, dtype="float16"):
    rng = RNG(1)
    videos = [rng.standard_normal((n, 3, 5)) for n in (2, 13, 1, 6)]
    return write_cache(tmp_path / "f.h5", videos, [0, 1, 0, 1], ["a", "b"], recipe={"dtype": dtype, "views": 3})


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("resident", [True, False])
def test_a_batch_holds_the_very_rows_of_the_file(tmp_path, monkeypatch, dtype, resident):
    if not resident:
        monkeypatch.setattr(residency, "SHARE", 0)
    features = features_with_views(tmp_path, dtype)
    loader = clip_batches(features)
    assert loader.descriptors.residency.kind == ("memory" if resident else "map")
    assert (loader.descriptors.copy is not None) == resident
    batch = loader.load(np.array([1, 3]), rng=RNG(0))
    assert batch.labels.tolist() == [1, 1]
    assert batch.mask.sum(dim=1).tolist() == [10, 6]
    chosen = choose_clips(np.array([13]), 10, "uniform")[0][0]
    assert_bitwise_equal(batch.descriptors[0], features.descriptors[2 + chosen, 0].astype(np.float32))
    assert_bitwise_equal(batch.descriptors[1, :6], features.descriptors[16:22, 0].astype(np.float32))


@pytest.mark.parametrize("resident", [True, False])
def test_a_looped_batch_holds_the_rows_of_a_short_video_again(tmp_path, monkeypatch, resident):
    if not resident:
        monkeypatch.setattr(residency, "SHARE", 0)
    features = features_with_views(tmp_path)
    loader = clip_batches(features, padding="loop")
    (training,) = loader.shuffled(np.array([0]), 8, rngs=[RNG(0)])
    for batch in (loader.load(np.array([0]), rng=RNG(0)), training):
        assert batch.mask.tolist() == [[True] * 10]
        assert_bitwise_equal(batch.descriptors[0, 2:], batch.descriptors[0, :8])  # two clips
    batch = loader.load(np.array([0, 2]), rng=RNG(0))
    expected = features.descriptors[[[0, 1] * 5, [15] * 10], 0].astype(np.float32)
    assert_bitwise_equal(batch.descriptors, expected)


def test_training_draws_views_and_evaluation_keeps_to_the_centre(tmp_path):
    features = features_with_views(tmp_path)
    loader = clip_batches(features)
    drawn = set()
    rng = RNG(0)
    for _ in range(20):
        (batch,) = loader.shuffled(np.array([3]), 8, rngs=[rng])
        views = [v for v in range(3) if (batch.descriptors[0, 0].numpy() == features.descriptors[16, v]).all()]
        drawn.update(views)
    assert drawn == {0, 1, 2}
    (batch,) = loader.in_order(np.array([3]), 8, rng=rng)
    assert (batch.descriptors[0, 0].numpy() == features.descriptors[16, 0]).all()


def test_one_pass_shows_every_video_once(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    loader = clip_batches(features, np.arange(features.num_videos))
    videos = np.arange(3, 30)
    for passes in (loader.shuffled(videos, 8, rngs=[RNG(0)]), loader.in_order(videos, 8, rng=RNG(0))):
        assert sorted(torch.cat([b.labels for b in passes]).tolist()) == videos.tolist()


def test_training_shuffles_anew_in_every_pass_and_evaluation_never(tmp_path):
    features = easy_cache(tmp_path / "f.h5")
    loader = clip_batches(features, np.arange(features.num_videos))
    videos, rng = np.arange(30), RNG(0)
    one, other = (torch.cat([b.labels for b in loader.shuffled(videos, 8, rngs=[rng])]).tolist() for _ in range(2))
    assert len({tuple(one), tuple(other), tuple(videos.tolist())}) == 3
    assert torch.cat([b.labels for b in loader.in_order(videos, 8, rng=rng)]).tolist() == videos.tolist()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_values_that_are_not_finite_are_refused_naming_the_videos(tmp_path, monkeypatch, dtype, value):
    monkeypatch.setattr(finite, "CHECK_BYTES", 64)  # several pieces
    videos = [np.ones((n, 5)) for n in (2, 13, 1, 6, 2, 2)]
    for n in (1, 2, 3, 5):
        videos[n][-1, 4] = value
    features = write_cache(tmp_path / "f.h5", videos, [0, 1] * 3, ["a", "b"], recipe={"dtype": dtype})
    with pytest.raises(
        FeatureFileError, match=r"4 videos have NaN or infinite values \(v0001.mp4, v0002.mp4, v0003.mp4, "
    ):
        check_finite(features, np.arange(6))
    with pytest.raises(FeatureFileError, match=r"1 videos have .* \(v0005.mp4\)"):
        check_finite(features, np.array([0, 4, 5]))
    check_finite(features, np.array([0, 4]))


def test_logits_that_are_not_finite_are_refused_too(tmp_path):
    videos = [np.ones((2, 3))] * 2
    logits = [np.ones((2, 4)), np.full((2, 4), np.nan)]
    features = write_cache(tmp_path / "f.h5", videos, [0, 1], ["a", "b"], logits=logits)
    with pytest.raises(FeatureFileError, match=r"v0001\.mp4"):
        check_finite(features, np.arange(2))
