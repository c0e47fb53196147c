"""The engine that is a Ray cluster: the network is loaded here for its recipe, and on every node for the work."""

import contextlib
import functools
import os
import secrets
from collections.abc import Iterator
from dataclasses import replace

from gcf.data.parts import PartFolder
from gcf.data.plugin_files import PLUGIN_SUFFIX
from gcf.errors import GcfError
from gcf.extract.backbones.huggingface_names import absolute_name, is_huggingface
from gcf.extract.config import PRECISIONS, ExtractConfig
from gcf.extract.engines.ray_cluster import Cluster
from gcf.extract.engines.ray_drive import Drive, Worker
from gcf.extract.engines.ray_faults import Fault, as_error, check_same, last_line
from gcf.extract.engines.ray_worker import MARKER, RayWorker, WorkerJob, recipe_on_node
from gcf.extract.find import VideoPath
from gcf.extract.pipeline import load_network


class RayEngine:
    """Loads the network here for its recipe, and on every node for the work."""

    def __init__(self, config: ExtractConfig, cluster: Cluster):
        self.config, self.cluster, self.ray = config, cluster, cluster.ray

    def load(self, backbone: str, weights: str) -> tuple[dict, list[str] | None]:
        """The recipe that every worker must make too, and the names of the backbone's classes."""
        self.backbone = _of_any_folder(backbone)
        self.weights = os.path.abspath(weights) if os.path.exists(weights) else weights
        device = "cuda" if self.cluster.gpus else "cpu"
        here = device if has_device(device) else "cpu"
        network, self.recipe = load_network(self.backbone, self.weights, replace(self.config, device=here))
        if here != device:
            self.recipe = self._recipe_of_a_node(self.recipe, {*network.backbone.recipe, "versions"}, device)
        pinned = self.recipe["precision"] if self.recipe["precision"] in PRECISIONS else self.config.precision
        self.pinned = replace(
            self.config,
            device=device,
            precision=pinned,
            batch_size=self.recipe["batch_size"],
            workers=self.config.workers or self.cluster.cpus,
        )
        return self.recipe, network.backbone.recipe.get("classes")

    def _recipe_of_a_node(self, ours: dict, shared: set[str], device: str) -> dict:
        """The recipe as a node with a GPU makes it, for a driver that has none; its `shared` entries must be ours."""
        config, options = replace(self.config, device=device), {"num_cpus": self.cluster.cpus, "num_gpus": 1}
        task = self.ray.remote(recipe_on_node).options(**options, max_retries=1)
        try:
            made = self.ray.get(task.remote(self.backbone, self.weights, config))
        except self.ray.exceptions.RayError as error:
            raise GcfError(f"Ray worker: cannot load the network ({last_line(error)})") from None
        if isinstance(made, Fault):
            raise as_error(made)
        theirs = {key: value for key, value in made.items() if key in shared}
        check_same("a node with a GPU", theirs, {key: value for key, value in ours.items() if key in shared})
        return made

    def work(self, run, todo: list[VideoPath], bar) -> None:
        """Bring `todo` to a committed state on the cluster; stopped, the workers commit what they have."""
        with _marked(run.parts) as token:
            start = functools.partial(self._start, run.parts, token)
            drive = Drive(self.cluster, run, todo, bar, start, least=2 * self.pinned.workers)
            try:
                drive.loop()
            except BaseException:
                drive.stop()
                raise
            finally:
                drive.end()
            drive.await_parts()

    def _start(self, parts: PartFolder, token: str, sample: str) -> Worker:
        """Ask Ray for one more worker; it is placed when there is room."""
        writer = secrets.token_hex(4)
        job = WorkerJob(
            out=os.path.abspath(parts.out),
            run=token,
            writer=writer,
            backbone=self.backbone,
            weights=self.weights,
            config=self.pinned,
            threads=self.cluster.cpus,
            sample=sample,
        )
        options = {"num_cpus": self.cluster.cpus, "num_gpus": int(self.cluster.gpus), "scheduling_strategy": "SPREAD"}
        actor = self.ray.remote(RayWorker).options(**options, max_concurrency=4, max_restarts=0).remote(job)
        return Worker(actor, writer, actor.prepare.remote())


def _of_any_folder(backbone: str) -> str:
    """The backbone's name for workers, which work in folders of their own."""
    if is_huggingface(backbone):
        return absolute_name(backbone)
    return os.path.abspath(backbone) if backbone.endswith(PLUGIN_SUFFIX) else backbone


@contextlib.contextmanager
def _marked(parts: PartFolder) -> Iterator[str]:
    """A marker file that the workers of this run, and only those, look for; markers of runs that died are removed."""
    token = secrets.token_hex(8)
    for path in parts.folder.glob(f"{MARKER}*"):
        path.unlink(missing_ok=True)
    marker = parts.folder / f"{MARKER}{token}"
    with parts.room_needed(0):
        marker.touch()
    try:
        yield token
    finally:
        marker.unlink(missing_ok=True)


def has_device(device: str) -> bool:
    """Whether this machine has a GPU, if one is asked for."""
    import torch

    return device == "cpu" or torch.cuda.is_available()
