"""Batches side by side on threads and devices: the same numbers, and nothing left behind."""

import threading
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_backbone
import torch
from compare import assert_bitwise_equal
from stage_one import TINY, extract

import gcf
from gcf.data.schema import VideoFeatures
from gcf.errors import UsageError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.engines import local
from gcf.extract.engines.local import LocalEngine
from gcf.extract.network import network_pool
from gcf.extract.network.clip_network import ClipNetwork
from gcf.extract.network.network_pool import NetworkPool
from gcf.extract.stream import pipeline
from gcf.extract.stream.config import ExtractConfig

pytestmark = pytest.mark.processor

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """No thread of a test outlives it, and torch computes with as many as before."""
    threads, number = set(threading.enumerate()), torch.get_num_threads()
    yield
    left = {thread.name for thread in set(threading.enumerate()) - threads} - {"tqdm_monitor"}  # lives on by design
    torch.set_num_threads(number)
    assert not left


@pytest.fixture(scope="module")
def network():
    return ClipNetwork(gcf.load_backbone(TINY), device=CPU, precision="fp32", batch_size=3)


@pytest.fixture(scope="module")
def batches():
    """Seven batches of one to three clips."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (1 + n % 3, 16, 32, 32, 3), dtype=np.uint8) for n in range(7)]


@pytest.fixture(scope="module")
def expected(network, batches):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = [network(batch) for batch in batches]
    torch.set_num_threads(before)
    return rows


@pytest.mark.parametrize("count", [1, 2, 3])
def test_batches_give_the_same_numbers_in_any_order_on_any_number_of_lanes(network, batches, expected, count):
    torch.set_num_threads(count)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(batches))
        with NetworkPool([network]) as lanes:
            assert lanes.count == count
            rows = {n: lanes.submit(batches[n]) for n in order}
            for n, future in rows.items():
                for found, wanted in zip(future.result(), expected[n], strict=True):
                    assert_bitwise_equal(found, wanted)
        assert torch.get_num_threads() == count


def test_every_lane_computes_with_one_thread_at_a_time_with_the_others(batches):
    torch.set_num_threads(3)
    meeting, seen = threading.Barrier(3), []

    class Meeting(ClipNetwork):
        def __call__(self, pixels):
            meeting.wait(timeout=30)  # none of three comes alone
            seen.append((torch.get_num_threads(), threading.get_ident(), torch.is_inference_mode_enabled()))
            return super().__call__(pixels)

    with NetworkPool([Meeting(tiny_backbone_loaded(), device=CPU, precision="fp32", batch_size=3)]) as lanes:
        futures = [lanes.submit(batch) for batch in batches[:3]]
        assert all(future.result() for future in futures)
    assert {(threads, inference) for threads, _, inference in seen} == {(1, True)}
    assert len({lane for _, lane, _ in seen}) == 3
    assert torch.get_num_threads() == 3
    later = []
    other = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    other.start()
    other.join()
    assert later == [3]


def tiny_backbone_loaded():
    module = tiny_backbone.build()
    module.recipe = tiny_backbone.RECIPE
    return module


class Failing:
    """A network whose second batch and all after it fail."""

    def __init__(self, backbone):
        self.backbone, self.device, self.batch_size, self.calls = backbone, CPU, 4, 0

    def __call__(self, pixels):
        self.calls += 1
        if self.calls > 1:
            raise ArithmeticError("of a lane")
        return np.zeros((len(pixels), 24), np.float32), np.zeros((len(pixels), 5), np.float32)


def test_a_lane_that_failed_takes_the_next_batch(batches):
    torch.set_num_threads(1)
    with NetworkPool([Failing(None)]) as lanes:
        outcomes = [lanes.submit(batches[0]) for _ in range(4)]
        assert [type(future.exception(timeout=30)) for future in outcomes] == [type(None), *[ArithmeticError] * 3]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 3])
def test_an_error_in_a_lane_reaches_the_caller_once_and_ends_everything(folder, tmp_path, monkeypatch, count):
    torch.set_num_threads(count)
    load = pipeline.load_network

    def failing(*args):
        network, recipe = load(*args)
        return Failing(network.backbone), recipe

    monkeypatch.setattr("gcf.extract.engines.local.load_network", failing)
    with pytest.raises(ArithmeticError, match="of a lane"):
        extract(folder, tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()
    assert torch.get_num_threads() == count


@pytest.mark.slow
def test_closing_early_stops_decoders_and_lanes(folder, network):
    torch.set_num_threads(2)
    found = [VideoPath(str(p), p.name) for p in sorted(folder.rglob("*.avi"))]
    recipe = network.backbone.recipe | {"num_frames": 16, "tail": "loop"}
    stream = pipeline.stream_features(found, network, recipe, ExtractConfig(workers=2))
    video_id, outcome = next(stream)
    assert isinstance(outcome, VideoFeatures)
    assert video_id in {v.id for v in found}
    stream.close()
    assert torch.get_num_threads() == 2


def test_batches_that_wait_are_dropped_at_the_end_and_those_that_run_are_waited_for(batches):
    torch.set_num_threads(1)
    begun, go_on, done = threading.Event(), threading.Event(), []

    class Slow(Failing):
        def __call__(self, pixels):
            begun.set()
            assert go_on.wait(timeout=30)
            done.append(len(pixels))

    with NetworkPool([Slow(None)]) as lanes:
        futures = [lanes.submit(batch) for batch in batches]
        assert begun.wait(timeout=30)
        threading.Timer(0.05, go_on.set).start()
    assert done == [len(batches[0])]
    assert [future.cancelled() for future in futures] == [False] + [True] * 6


def test_every_device_has_a_copy_of_its_own(network, monkeypatch):
    torch.set_num_threads(2)
    asked = []
    monkeypatch.setattr(network_pool, "choose_device", lambda name: asked.append(name) or CPU)
    with NetworkPool([network], ["cuda:0", "cuda:1", "cuda:2"]) as lanes:
        found = [lanes.free[0].get() for _ in range(lanes.count)]
    assert asked == ["cuda:1", "cuda:2"]
    assert lanes.count == 6
    assert found[:3] == found[3:]
    assert len({id(each.backbone) for each in found}) == 3
    assert {(each.batch_size, each.precision) for each in found} == {(3, "fp32")}


@pytest.mark.parametrize(
    ("device", "devices"),
    [
        ("auto", ["auto"]),
        ("cpu", ["cpu"]),
        ("cuda:1", ["cuda:1"]),
        ("cuda:0,cuda:1", ["cuda:0", "cuda:1"]),
        (" cuda:3 , cuda:0 ", ["cuda:3", "cuda:0"]),
    ],
)
def test_devices_are_named_with_commas(device, devices):
    assert ExtractConfig(device=device).devices == devices


@pytest.mark.parametrize(
    "device",
    ["cuda:0,cuda:0", "cuda:0, cuda:0", "cuda:0,cpu", "cpu,cpu", "cuda,cuda:1", "auto,cuda:0", "cuda:0,", ",", "cpu,"],
)
def test_lists_of_devices_that_make_no_sense_are_refused(device):
    with pytest.raises(UsageError, match="several devices are GPUs, each named once"):
        ExtractConfig(device=device)
    with pytest.raises(UsageError):
        ExtractConfig(device=device, engine="ray")


@pytest.mark.parametrize(("device", "order"), [("cpu", "abcd"), ("cuda:0", "abcd"), ("cuda:0,cuda:1", "cadb")])
def test_over_several_devices_the_larger_files_come_first(tmp_path, monkeypatch, device, order):
    for name, size in zip("abc", (5, 0, 9), strict=True):
        (tmp_path / name).write_bytes(b"." * size)
    (tmp_path / "d").write_bytes(b".")
    run = SimpleNamespace(todo=[VideoPath(str(tmp_path / name), name) for name in "abcd"])
    begun = []
    monkeypatch.setattr(local, "work", lambda *given: begun.append(given))
    engine = LocalEngine(ExtractConfig(device=device))
    engine.networks = ["network"]
    engine.work([run], run.todo, "bar")
    ((runs, networks, todo, bar),) = begun
    assert (runs, networks, bar) == ([run], ["network"], "bar")
    assert "".join(video.id for video in todo) == order
    assert "".join(video.id for video in run.todo) == "abcd"
