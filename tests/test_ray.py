"""Extraction on a real Ray cluster of several node processes: the bytes of the local engine, whatever is killed."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import av
import numpy as np
import pytest
import videos
from stage_one import TINY

from gcf import FeatureFile, extract_together, extract_videos
from gcf.errors import GcfError, RecipeError, UsageError
from gcf.extract.decoding.find import VideoPath
from gcf.extract.engines import chunks
from gcf.extract.engines.chunks import DEATHS, Chunk, ChunkQueue
from gcf.extract.engines.ray_faults import Fault
from gcf.extract.engines.ray_worker import Model, RayWorker, WorkerJob
from gcf.extract.stream.config import ExtractConfig

ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'gcf-net[ray]'")
from ray.cluster_utils import Cluster  # noqa: E402

SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20}
OPTIONS = {"batch_size": 4, "workers": 1, "worker_cpus": 1}
BY_TORCH = {"batch_size": 4, "runtime": "torch"}  # the held plug-in waits in its own code, which OpenVINO does not run


@pytest.fixture(scope="module")
def cluster():
    """A head that takes no work and two nodes of one CPU each."""
    nodes = Cluster(initialize_head=True, head_node_args={**SMALL, "num_cpus": 0, "include_dashboard": False})
    nodes.add_node(**SMALL)
    nodes.add_node(**SMALL)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    yield nodes
    ray.shutdown()
    nodes.shutdown()


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Path:
    """Fourteen videos, two of which are none."""
    root = videos.write_folder(tmp_path_factory.mktemp("many"), videos=6)
    (root / "jump" / "empty.mp4").write_bytes(b"")
    (root / "run" / "page.mp4").write_text("<html>" * 20_000)
    return root


@pytest.fixture(scope="module")
def expected(many, tmp_path_factory) -> bytes:
    out = tmp_path_factory.mktemp("expected") / "f.h5"
    extract_videos(many, out, backbone=str(plugin(out.parent)), **BY_TORCH)
    return out.read_bytes()


def plugin(folder: Path) -> Path:
    """The plug-in in a folder of its own, with what it imports."""
    for name in ("tiny_backbone.py", "held_backbone.py"):
        shutil.copy(Path(__file__).with_name(name), folder)
    return folder / "held_backbone.py"


@pytest.fixture
def backbone(tmp_path) -> Path:
    folder = tmp_path / "plugin"
    folder.mkdir()
    return plugin(folder)


def on_ray(source, out, backbone, **options):
    return extract_videos(source, out, backbone=str(backbone), engine="ray", **OPTIONS | BY_TORCH | options)


def start_driver(cluster, source, out, backbone) -> subprocess.Popen:
    command = [sys.executable, "-m", "gcf.cli", "extract", str(source), str(out), "--backbone", str(backbone)]
    command += ["--engine", "ray", "--batch-size", "4", "--workers", "1", "--worker-cpus", "1", "--runtime", "torch"]
    environment = os.environ | {"RAY_ADDRESS": cluster.address}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(event, process=None) -> None:
    while not event():
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def workers_of(backbone: Path, driver: int | None = None) -> list[int]:
    pids = [int(p.name) for p in backbone.parent.glob("pids/*")]
    return [pid for pid in pids if pid != (driver or os.getpid())]


def parts_of(out: Path) -> list[Path]:
    return list(out.with_name(out.name + ".parts").glob("part-*.h5"))


def meanwhile(work) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.slow
def test_a_worker_killed_at_work_costs_nothing_and_failures_are_recorded_once(
    cluster, many, backbone, expected, tmp_path, capfd
):
    out, hold = tmp_path / "f.h5", backbone.with_name("hold")
    hold.touch()
    killed = []

    def kill():
        wait_for(lambda: parts_of(out) and len(workers_of(backbone)) == 2)
        killed.extend(workers_of(backbone)[:1])
        os.kill(killed[0], signal.SIGKILL)
        hold.unlink()

    killer = meanwhile(kill)
    summary = on_ray(many, out, backbone)
    killer.join()
    assert (summary.videos, summary.extracted) == (12, 14)
    assert [video_id for video_id, _ in summary.failures] == ["jump/empty.mp4", "run/page.mp4"]
    assert out.read_bytes() == expected
    assert capfd.readouterr().out == "", "what Ray says of dead workers is kept off standard output"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5", "plugin"]


@pytest.mark.slow
def test_a_node_killed_at_work_costs_nothing(cluster, many, backbone, expected, tmp_path):
    out, hold = tmp_path / "f.h5", backbone.with_name("hold")
    hold.touch()

    def kill():
        wait_for(lambda: parts_of(out) and len(workers_of(backbone)) == 2)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        hold.unlink()

    killer = meanwhile(kill)
    summary = on_ray(many, out, backbone)
    killer.join()
    cluster.add_node(**SMALL)
    assert summary.videos == 12
    assert out.read_bytes() == expected


@pytest.mark.slow
def test_a_driver_terminated_and_then_killed_keeps_what_is_committed_for_either_engine(
    cluster, many, backbone, expected, tmp_path
):
    out, hold = tmp_path / "f.h5", backbone.with_name("hold")
    hold.touch()
    driver = start_driver(cluster, many, out, backbone)
    wait_for(lambda: parts_of(out), driver)
    driver.terminate()
    hold.unlink()
    printed, said = driver.communicate()
    assert (driver.returncode, printed) == (143, ""), said
    assert said.splitlines()[-1] == "gcf: terminated; the same command goes on from what is committed"
    assert "Traceback" not in said
    assert not list(out.with_name("f.h5.parts").glob("ray-*"))
    hold.touch()
    before = len(parts_of(out))
    driver = start_driver(cluster, many, out, backbone)
    wait_for(lambda: len(parts_of(out)) > before, driver)
    driver.kill()
    driver.communicate()
    hold.unlink()
    assert not out.exists()
    assert extract_videos(many, out, backbone=str(backbone), **BY_TORCH).extracted < 13
    assert out.read_bytes() == expected


@pytest.mark.slow
def test_a_video_that_kills_its_workers_is_recorded_and_the_run_goes_on(cluster, backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "DEATHS", 2)  # each takes a new worker's start
    source, out = tmp_path / "videos", tmp_path / "f.h5"
    videos.write_video(source / "good.avi", 20)
    with av.open(str(source / "black.avi"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for _ in range(16 * 4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    backbone.with_name("poison").touch()
    summary = on_ray(source, out, backbone)
    assert summary.failures == [("black.avi", "the worker process died at it, again and again")]
    assert FeatureFile(out).ids == ["good.avi"]


@pytest.mark.slow
def test_a_node_that_would_make_other_numbers_is_refused_by_name(cluster, many, backbone, tmp_path):
    backbone.with_name("other").touch()
    with pytest.raises(RecipeError, match=r"Ray worker on \S+: would make other numbers.*std: .*install the same"):
        on_ray(many, tmp_path / "f.h5", backbone)
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.slow
def test_a_worker_that_fits_nowhere_is_a_usage_error(cluster, many, tmp_path):
    with pytest.raises(UsageError, match="each takes 64 CPUs, the nodes have 1 at most; give --worker-cpus"):
        on_ray(many, tmp_path / "f.h5", TINY, worker_cpus=64)
    with pytest.raises(UsageError, match="no node of the Ray cluster has a GPU"):
        on_ray(many, tmp_path / "f.h5", TINY, device="cuda")
    with pytest.raises(UsageError, match="the cluster chooses the device"):
        on_ray(many, tmp_path / "f.h5", TINY, device="cuda:1")


@pytest.mark.slow
@pytest.mark.parametrize(("address", "said"), [("127.0.0.1:1", "no connection"), ("ray://h:1", "its HOST:PORT")])
def test_an_address_where_no_cluster_is_costs_one_line(many, tmp_path, address, said):
    code = "import sys, gcf.cli; gcf.cli.main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "extract", str(many), str(tmp_path / "f.h5"), "--engine", "ray"]
    run = subprocess.run(command, env=os.environ | {"RAY_ADDRESS": address}, capture_output=True, text=True)
    assert run.returncode in (1, 2)
    assert run.stderr.startswith(f"gcf: RAY_ADDRESS={address}: ")
    assert said in run.stderr
    assert run.stderr.count("\n") == 1


def worker(tmp_path, many, *, sample=None, **changes) -> RayWorker:
    model = Model(**{"backbone": TINY, "weights": "default", "config": ExtractConfig()} | changes)
    sample = sample or str(many / "jump" / "empty.mp4")
    return RayWorker(WorkerJob([str(tmp_path / "f.h5")], "r", "w", [model], threads=1, sample=sample))


@pytest.mark.slow
def test_two_backbones_on_ray_are_the_same_bytes_as_each_alone_on_this_machine(cluster, many, tmp_path):
    second = tmp_path / "short.py"
    second.write_text(Path(TINY).read_text() + "\nRECIPE |= {'num_frames': 4, 'resize': 48, 'crop': 40}\n")
    for name, backbone in (("tiny_backbone", TINY), ("short", second)):
        extract_videos(many, tmp_path / f"alone-{name}.h5", backbone=str(backbone), batch_size=4)
    found = [VideoPath(str(p), p.name) for p in sorted(many.rglob("*.avi"))]
    extract_videos(many, tmp_path / "f-short.h5", backbone=str(second), batch_size=4)  # one of the two has some already
    summaries = extract_together(many, tmp_path / "f.h5", backbones=[TINY, str(second)], engine="ray", **OPTIONS)
    assert [summary.extracted for summary in summaries] == [len(found) + 2, 2]  # what failed is tried again
    for name in ("tiny_backbone", "short"):
        assert (tmp_path / f"f-{name}.h5").read_bytes() == (tmp_path / f"alone-{name}.h5").read_bytes()
        assert FeatureFile(tmp_path / f"f-{name}.h5").recipe["runtime"] == "openvino"


def test_what_a_node_does_not_see_is_said(tmp_path, many):
    fault = worker(tmp_path, many).prepare()
    assert isinstance(fault, Fault)
    assert fault.exit_code == 4
    assert "f.h5.parts; put the output on storage that all nodes share" in fault.message
    (tmp_path / "f.h5.parts").mkdir()
    (tmp_path / "f.h5.parts" / "ray-r").touch()
    assert (
        "put the videos on storage that all nodes share" in worker(tmp_path, many, sample="/absent").prepare().message
    )
    assert "nowhere.pth" in worker(tmp_path, many, backbone="resnext101", weights="/nowhere.pth").prepare().message
    assert "device" in worker(tmp_path, many, config=ExtractConfig(device="tpu9")).prepare().message


@pytest.mark.slow
def test_a_worker_whose_run_is_over_commits_nothing(tmp_path, folder):
    parts = tmp_path / "f.h5.parts"
    parts.mkdir()
    (parts / "ray-r").touch()
    late = worker(tmp_path, folder, sample=str(folder))
    assert isinstance(late.prepare(), dict)
    found = [VideoPath(str(p), p.name) for p in sorted(folder.rglob("*.avi"))]
    assert late.extract(found[:3], [{v.id for v in found[:3]}]) is None
    assert [p.name for p in sorted(parts.glob("part*"))] == ["part-000001-w.h5"]
    assert len(late.progress(1)) == 2
    (parts / "ray-r").unlink()
    assert late.extract(found[3:], [{v.id for v in found[3:]}]) is None
    assert len(list(parts.glob("part*"))) == 1


@pytest.mark.slow
def test_a_worker_commits_to_no_output_that_another_run_has_taken_over(tmp_path, folder):
    outs = [tmp_path / "a.h5", tmp_path / "b.h5"]
    for out in outs:
        (tmp_path / f"{out.name}.parts").mkdir()
        (tmp_path / f"{out.name}.parts" / "ray-r").touch()
    model = Model(TINY, "default", ExtractConfig())
    late = RayWorker(WorkerJob([str(out) for out in outs], "r", "w", [model, model], threads=1, sample=str(folder)))
    assert isinstance(late.prepare(), dict)
    (tmp_path / "b.h5.parts" / "ray-r").unlink()
    found = [VideoPath(str(p), p.name) for p in sorted(folder.rglob("*.avi"))]
    assert late.extract(found, [{v.id for v in found}] * 2) is None
    assert not list((tmp_path / "b.h5.parts").glob("part*"))
    assert "b.h5.parts; put the output on storage" in late.prepare().message


@pytest.mark.slow
def test_videos_that_go_out_of_sight_with_their_disk_are_not_failures(tmp_path, folder):
    source, parts = tmp_path / "videos", tmp_path / "f.h5.parts"
    shutil.copytree(folder, source)
    parts.mkdir()
    (parts / "ray-r").touch()
    at_work = worker(tmp_path, folder, sample=str(source / "jump"))
    at_work.prepare()
    found = [VideoPath(str(p), p.name) for p in sorted(source.rglob("*.avi"))]
    source.rename(tmp_path / "gone")
    fault = at_work.extract(found, [{v.id for v in found}])
    assert fault.exit_code == 5
    assert "mount the videos again" in fault.message
    assert not list(parts.glob("part*"))


def queue_of(*sizes, least=1) -> ChunkQueue:
    return ChunkQueue([(VideoPath(f"/{n}", f"{n}"), size) for n, size in enumerate(sizes)], least=least)


def test_chunks_are_longest_first_and_shrink_towards_the_end():
    queue = queue_of(*range(1, 1001), least=2)
    taken = []
    while chunk := queue.take(4):
        taken.append(chunk)
    order = [int(v.id) for c in taken for v in c.videos]
    assert order == list(range(999, -1, -1))
    counts = [len(c.videos) for c in taken]
    assert counts[0] < 40
    assert counts[-1] <= 2
    assert len(taken[0].videos) * 1000 < 1000 * 1001 / 2 / 4, "no worker gets a static share"
    assert len(queue_of(*[0] * 600).take(1).videos) <= 256


@pytest.mark.parametrize("bad", range(8))
def test_the_video_that_kills_its_workers_is_found_and_no_other_is_given_up(bad):
    queue, done, given_up, deaths = queue_of(*[1] * 8, least=8), set(), [], 0
    while chunk := queue.take(1):
        if any(v.id == str(bad) for v in chunk.videos):
            deaths += 1
            left = [v for v in chunk.videos if v.id >= str(bad)]  # those before it were committed
            done |= {v.id for v in chunk.videos} - {v.id for v in left}
            hopeless = queue.lost(chunk, left)
            given_up += [hopeless.id] if hopeless else []
        else:
            done |= {v.id for v in chunk.videos}
    assert given_up == [str(bad)]
    assert done == {str(n) for n in range(8)} - {str(bad)}
    assert DEATHS <= deaths <= 8


def test_what_was_lost_once_is_done_before_the_rest():
    queue = queue_of(3, 2, 1)
    first = queue.take(1)
    assert queue.lost(first, first.videos) is None
    assert queue.take(1) == Chunk(first.videos, deaths=1)
    assert queue.lost(first, []) is None
    assert len(queue) == 3 - len(first.videos)


@pytest.mark.slow
def test_ray_being_absent_is_said(many, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'gcf-net\[ray\]'"):
        on_ray(many, tmp_path / "f.h5", TINY)


@pytest.mark.slow
def test_an_engine_that_does_not_exist_is_a_usage_error():
    with pytest.raises(GcfError, match="engine is one of local, ray"):
        ExtractConfig(engine="spark")
