"""Clips into batches and rows back into videos, whatever the order in which batches are done."""

import random
from concurrent.futures import Future

import numpy as np
import pytest
from compare import assert_bitwise_equal

from gcf.data.schema import VideoFeatures, VideoInfo
from gcf.errors import StoppedError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.decoding.jobs import Clip
from gcf.extract.decoding.pool import Failed
from gcf.extract.stream.assembly import Batcher, assemble

INFO = VideoInfo(fps=25, num_frames=16, width=32, height=32, duration=1, size=1, mtime_ns=1)


def clip(*numbers, start=0):
    """A clip with a view per number, of one pixel that holds it."""
    return Clip(np.array(numbers, np.uint8).reshape(-1, 1, 1, 1, 1), start, 1, start / 25, (start + 1) / 25)


def rows_of(pixels):
    """What the network makes of a batch."""
    numbers = pixels.reshape(-1).astype(np.float32)
    return np.stack([numbers, 2 * numbers], axis=1), 3 * numbers[:, None]


class Network:
    """Runs batches when they are asked for, or before, by chance; counts those under way."""

    def __init__(self, rng=None, *, before=0.0):
        self.rng, self.before = rng or random.Random(0), before
        self.begun, self.under_way, self.most, self.finished = [], [], 0, []

    def submit(self, pixels):
        self.begun.append(pixels.reshape(-1).tolist())
        self.under_way.append(_Batch(self, len(self.begun) - 1, pixels))
        self.most = max(self.most, len(self.under_way))
        for batch in list(self.under_way):
            if self.rng.random() < self.before:
                batch.finish()
        return self.under_way[-1] if self.under_way and self.under_way[-1].number == len(self.begun) - 1 else batch

    def decoded(self, items, log=None):
        """The items of a decoder pool; log: how many batches are under way whenever one is asked for."""
        for name, item in items:
            if log is not None:
                log.append(len(self.under_way))
            yield VideoPath(name, name), 0, item


def assembled(decoded, submit, *, batch_size, dtype="float32", **more):
    """The outcomes of one network."""
    for index, outcome in assemble(decoded, [Batcher(submit, batch_size=batch_size, dtype=dtype)], **more):
        assert index == 0
        yield outcome


class _Batch(Future):
    def __init__(self, network, number, pixels):
        super().__init__()
        self.network, self.number, self.pixels = network, number, pixels

    def finish(self):
        if not self.done():
            self.network.under_way.remove(self)
            self.network.finished.append(self.number)
            self.set_result(rows_of(self.pixels))

    def result(self, timeout=None):
        self.finish()
        return super().result(timeout)


def mixed(rng, *, views):
    """(items of many videos interleaved, what each of them is to become: numbers per clip and view, or Failed)."""
    streams, expected = [], {}
    for n in range(rng.randint(1, 9)):
        name, count = f"v{n}", rng.choice((0, 1, 2, 5, 9))
        clips = [[rng.randrange(256) for _ in range(views)] for _ in range(count)]
        end = Failed(f"of {name}") if rng.random() < 0.3 else INFO
        streams.append([*((name, clip(*numbers, start=k)) for k, numbers in enumerate(clips)), (name, end)])
        if count or end is not INFO:
            expected[name] = clips if end is INFO else end
        else:
            streams.pop()
    items = []
    while streams:
        stream = rng.choice(streams)
        items.append(stream.pop(0))
        streams = [left for left in streams if left]
    return items, expected


@pytest.mark.slow
@pytest.mark.parametrize("views", [1, 3, 20])
@pytest.mark.parametrize("waiting", [1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_every_video_gets_its_own_rows_once_whatever_is_done_first(views, waiting, batch_size):
    disordered = 0
    for seed in range(15):
        rng = random.Random(seed)
        items, expected = mixed(rng, views=views)
        network, asked, calls = Network(rng, before=0.3), [], []
        outcomes = list(
            assembled(
                network.decoded(items, asked),
                network.submit,
                batch_size=batch_size,
                waiting=waiting,
                after_batch=lambda calls=calls: calls.append(1),
            )
        )
        assert sorted(name for name, _ in outcomes) == sorted(expected)
        for name, outcome in outcomes:
            if isinstance(expected[name], Failed):
                assert outcome is expected[name]
                continue
            numbers = np.array(expected[name], np.float32)  # (clips, views)
            assert_bitwise_equal(outcome.descriptors, np.stack([numbers, 2 * numbers], axis=2))
            assert_bitwise_equal(outcome.logits, (3 * numbers[:, :1]).astype(np.float16))
            assert outcome.clips.start_frame.tolist() == list(range(len(numbers)))
            assert outcome.info is INFO
        assert all(len(batch) == batch_size for batch in network.begun[:-1])
        assert max(asked, default=0) <= waiting
        assert network.most <= waiting + 1
        assert len(calls) == len(network.begun) == len(network.finished)
        disordered += network.finished != sorted(network.finished)
    assert disordered or (waiting == 1 and batch_size == 7)


def test_a_failed_videos_clips_that_wait_or_run_cost_the_others_nothing():
    network, gone = Network(), Failed("gone")
    items = [
        *(("a", clip(1)), ("b", clip(2)), ("a", clip(3, start=1))),  # 1 2 | 3
        *(("b", clip(4, start=1)), ("a", gone), ("b", clip(5, start=2))),  # 3 4 | 5: a fails while its clip runs
        *(("c", clip(6)), ("d", clip(7)), ("c", gone), ("d", INFO), ("b", INFO)),  # 5 6 | 7, c in one and gone
        *(("e", clip(8)), ("f", clip(9)), ("f", gone), ("e", INFO)),  # 7 8 | 9 waits and is dropped
    ]
    outcomes = list(assembled(network.decoded(items), network.submit, batch_size=2, waiting=3))
    assert network.begun == [[1, 2], [3, 4], [5, 6], [7, 8]]
    assert [name for name, outcome in outcomes if outcome is gone] == ["a", "c", "f"]
    rows = {name: outcome.descriptors[:, 0, 0].tolist() for name, outcome in outcomes if outcome is not gone}
    assert rows == {"b": [2, 4, 5], "d": [7], "e": [8]}


def test_after_batch_is_called_after_each_batch_also_while_no_video_is_done():
    network, told = Network(), []
    items = [*(("long", clip(n, start=n)) for n in range(5)), ("long", INFO)]
    stream = assembled(
        network.decoded(items),
        network.submit,
        batch_size=1,
        after_batch=lambda: told.append(list(network.finished)),
    )
    name, outcome = next(stream)
    assert (name, len(outcome.descriptors)) == ("long", 5)
    assert told == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3]]  # the last when its videos are taken
    assert list(stream) == []
    assert told[4:] == [[0, 1, 2, 3, 4]]


def test_a_batch_that_is_done_is_settled_without_waiting_for_more():
    network = Network(before=1.0)
    items = [("a", clip(1)), ("a", INFO), *(("b", clip(2, start=n)) for n in range(9))]
    stream = assembled(network.decoded(items), network.submit, batch_size=1, waiting=99)
    name, outcome = next(stream)
    assert name == "a"
    assert isinstance(outcome, VideoFeatures)
    assert network.begun == [[1]]


def test_an_error_of_the_network_ends_the_stream():
    def submit(pixels):
        future = Future()
        future.set_exception(ArithmeticError("of a lane"))
        return future

    with pytest.raises(ArithmeticError, match="of a lane"):
        list(assembled(Network().decoded([("a", clip(1)), ("a", INFO)]), submit, batch_size=1))


def test_what_is_done_is_given_while_the_decoders_are_silent():
    network, a = Network(), VideoPath("a", "a")

    def decoded():
        yield a, 0, clip(1)
        yield a, 0, INFO
        network.under_way[0].finish()
        yield None
        pytest.fail("asked on before what is done was given")

    stream = assembled(decoded(), network.submit, batch_size=1, waiting=3)
    video_id, rows = next(stream)
    assert (video_id, rows.descriptors.reshape(-1).tolist()) == ("a", [1.0, 2.0])


def test_when_no_more_can_be_read_what_the_network_has_is_still_given():
    def decoded():
        yield VideoPath("a", "a"), 0, clip(7)
        yield VideoPath("a", "a"), 0, INFO
        raise StoppedError("this folder of videos is gone")

    stream = assembled(decoded(), Network().submit, batch_size=1, waiting=3)
    assert next(stream)[0] == "a"
    with pytest.raises(StoppedError):
        next(stream)


@pytest.mark.parametrize(("logit", "kept"), [(1e6, 65504.0), (-np.inf, -65504.0), (np.nan, None)])
def test_logits_beyond_float16_are_its_largest_and_no_number_is_a_failure(logit, kept):
    def submit(pixels):
        future = Future()
        future.set_result((np.ones((len(pixels), 2), np.float32), np.full((len(pixels), 1), logit, np.float32)))
        return future

    items = [(VideoPath("a", "a"), 0, item) for item in (clip(1), INFO)]
    ((_, rows),) = assembled(iter(items), submit, batch_size=1, dtype="float16")
    if kept is None:
        assert isinstance(rows, Failed)
        assert "not finite" in rows.error
    else:
        assert rows.logits.tolist() == [[kept]]
