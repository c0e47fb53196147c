import numpy as np
import pytest
import torch
from caches import easy_cache
from compare import FLOAT32_FORWARD, relative_error
from stage_two import ask_one, clip_batches, train_one

import gcf
from gcf.data import memory
from gcf.data.splits import holdout
from gcf.errors import UsageError
from gcf.head.fitting import batches as batches_module
from gcf.head.fitting import residency
from gcf.head.fitting.batches import Descriptors
from gcf.head.fitting.order import blocks, draw
from gcf.head.fitting.residency import choose_residency, free_memory
from gcf.head.models.config import PRESETS
from gcf.head.models.standard import inner_head

RNG = np.random.default_rng


def test_windows_hold_every_video_once_in_blocks_of_neighbours():
    videos, sizes = np.arange(3, 103), np.full(100, 10)
    windows = list(blocks(videos, sizes, block=50, window=200, rng=RNG(0)))
    runs = [run for window in windows for run in window]
    assert sorted(np.concatenate(runs).tolist()) == videos.tolist()
    assert all((np.diff(run) == 1).all() for run in runs)  # read at one go
    assert max(sizes[: len(run)].sum() for run in runs) <= 60
    assert all(20 <= sum(len(run) for run in window) < 26 for window in windows[:-1])
    again = list(blocks(videos, sizes, block=50, window=200, rng=RNG(1)))
    assert [run[0] for run in windows[0]] != [run[0] for run in again[0]]


def test_a_video_larger_than_a_block_is_a_block():
    windows = list(blocks(np.arange(4), np.array([5, 900, 5, 5]), block=10, window=10, rng=RNG(0)))
    assert sorted(np.concatenate([run for window in windows for run in window]).tolist()) == [0, 1, 2, 3]


def test_a_balanced_pass_is_as_long_and_draws_every_class_as_often():
    labels = np.array([0] * 900 + [1] * 90 + [2] * 10)
    drawn = np.concatenate([labels[draw(np.arange(1000), labels, "balanced", rng=RNG(s))] for s in range(10)])
    assert len(drawn) == 10_000
    assert abs(np.bincount(drawn) - 10_000 / 3).max() < 4 * np.sqrt(10_000 * 2 / 9)  # four standard deviations
    plain = draw(np.arange(1000), labels, "shuffle", rng=RNG(0))
    assert sorted(plain.tolist()) == list(range(1000))


@pytest.fixture
def small_windows(monkeypatch):
    monkeypatch.setattr(batches_module, "BLOCK_BYTES", 600)  # a few videos of the small cache
    monkeypatch.setattr(batches_module, "WINDOW_BYTES", 2000)


@pytest.mark.slow
def test_a_pass_from_the_file_shows_every_video_once_in_full_batches_with_its_own_rows(tmp_path, small_windows):
    features = easy_cache(tmp_path / "f.h5", per_class=20)
    loader = clip_batches(features, np.arange(features.num_videos), once=True)
    videos = np.arange(2, 58)
    for seed in range(3):
        passing = list(loader.shuffled(videos, 8, rngs=[RNG(seed)]))
        seen = torch.cat([batch.labels for batch in passing]).numpy()
        assert sorted(seen.tolist()) == videos.tolist()
        assert [len(batch.labels) for batch in passing] == [8] * 7
        assert (np.abs(np.diff(seen)) > 1).mean() > 0.5  # shuffled within windows
        for batch in passing:
            for row, n in enumerate(batch.labels.tolist()):
                first = features.descriptors[features.offsets[n], 0]
                assert (batch.descriptors[row, 0].numpy() == first.astype(np.float32)).all()


@pytest.mark.parametrize("once", [True, False], ids=["file", "memory"])
def test_each_order_shows_every_video_once_whatever_other_orders_there_are(tmp_path, small_windows, once):
    features = easy_cache(tmp_path / "f.h5", per_class=20)
    loader = clip_batches(features, np.arange(features.num_videos), once=once)
    videos = np.arange(2, 58)

    def seen(*seeds):
        rngs = [RNG(seed) for seed in seeds]
        passing = loader.shuffled(videos, 8, rngs=rngs, reading=RNG(9))
        return torch.cat([batch.labels for batch in passing], dim=-1).numpy()

    both, alone = seen(1, 2), seen(2)
    assert both.shape == (2, len(videos))
    assert all(sorted(order.tolist()) == videos.tolist() for order in both)
    assert (both[1] == alone).all()
    assert (both[0] != both[1]).mean() > 0.8
    (batch, *_) = loader.shuffled(videos, 8, rngs=[RNG(1), RNG(2)], reading=RNG(9))
    for order, labels in enumerate(batch.labels):
        for row, n in enumerate(labels.tolist()):
            start, count = features.offsets[n], np.diff(features.offsets)[n]
            assert batch.mask[order, row].sum() == min(10, count)
            found = batch.descriptors[order, row][batch.mask[order, row]].numpy()
            clips, mask = loader.select(np.array([n]))
            own = features.descriptors[start : start + count, 0][clips[0][mask[0]]]
            assert (found == own.astype(np.float32)).all()


@pytest.mark.slow
def test_seeds_shuffle_anew_unless_told_to_share(tmp_path):
    features = easy_cache(tmp_path / "f.h5", per_class=20)
    quick = {"head": "mean", "batch_size": 8, "epochs": 4, "audit": False, "seeds": 3}
    own = gcf.train_head(features, **quick)
    shared = gcf.train_head(features, **quick, batch_order="shared")
    for number, seed in enumerate(range(3)):
        alone = gcf.train_head(features, **quick | {"seed": seed, "seeds": 1})
        for name, value in inner_head(alone.head.module).state_dict().items():
            error = relative_error(inner_head(own.heads[number].module).state_dict()[name], value)
            assert error < 100 * FLOAT32_FORWARD, (seed, name)  # rounding of many steps
            if seed:
                other = inner_head(shared.heads[number].module).state_dict()[name]
                assert relative_error(other, value) > 1e-3
    assert own.metrics["train"]["batch_order"] == "own"
    with pytest.raises(UsageError, match="unknown batch order 'random'; known: own, shared"):
        gcf.train_head(features, batch_order="random")


@pytest.mark.slow
def test_of_a_file_larger_than_memory_seeds_share_the_order_of_blocks_and_it_is_said(
    tmp_path, small_windows, monkeypatch
):
    features = easy_cache(tmp_path / "f.h5", per_class=20)
    monkeypatch.setattr(residency, "SHARE", 0)
    quick = {"head": "mean", "batch_size": 8, "epochs": 2, "audit": False}
    said = "Blocks of the file were read in one order for all seeds"
    assert any(said in note for note in gcf.train_head(features, seeds=2, **quick).metrics["notes"])
    for other in ({"seeds": 1}, {"seeds": 2, "batch_order": "shared"}):
        notes = gcf.train_head(features, **quick, **other).metrics["notes"]
        assert not any(said in note for note in notes)


@pytest.mark.slow
def test_heads_learn_as_well_from_the_file_as_from_memory(tmp_path, small_windows, monkeypatch):
    features = easy_cache(tmp_path / "f.h5", per_class=24)
    split = holdout(features.labels, features.subsets, features.groups)
    in_memory = clip_batches(features)
    monkeypatch.setattr(residency, "SHARE", 0)
    from_file = clip_batches(features)
    assert (in_memory.descriptors.copy is None, from_file.descriptors.copy is None) == (False, True)
    for loader in (in_memory, from_file):
        run = train_one(PRESETS["mean"], loader, split, batch_size=16)
        said = ask_one(run.head, loader, split.test).log_probabilities
        assert (said.argmax(axis=1) == features.labels[split.test]).mean() >= 0.95


def test_descriptors_go_where_there_is_room(monkeypatch):
    monkeypatch.setattr(residency, "free_memory", lambda: 1000)
    cpu = torch.device("cpu")
    assert choose_residency(500, cpu).kind == "memory"
    larger = choose_residency(501, cpu)
    assert larger.kind == "map"
    assert "read from the file, in blocks that are shuffled" in larger.describe()


def test_free_memory_is_that_of_this_machine():
    assert 1 << 20 < free_memory() < 1 << 45


@pytest.mark.parametrize(
    ("line", "place", "names"),
    [
        ("0::/jobs/one", "jobs", ("memory.max", "memory.current", "inactive_file")),
        (
            "4:memory:/jobs/one",
            "memory/jobs",
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ),
    ],
)
def test_a_control_group_above_the_process_bounds_its_memory(tmp_path, line, place, names):
    limit, used, droppable = names
    for folder, most in ((tmp_path / place, "1000"), (tmp_path / place / "one", "max")):
        folder.mkdir(parents=True)
        for name, text in ((limit, most), (used, "700"), ("memory.stat", f"anon 600\n{droppable} 100")):
            (folder / name).write_text(text + "\n")
    membership = tmp_path / "cgroup"
    membership.write_text(f"5:devices:/\n{line}\n")
    assert list(memory._group_rooms(membership, tmp_path)) == [400]
    assert not list(memory._group_rooms(tmp_path / "absent", tmp_path))


def test_on_a_gpu_small_descriptors_are_copied_to_it(tmp_path, gpu):
    assert Descriptors(easy_cache(tmp_path / "f.h5"), device=gpu).copy.device.type == "cuda"
