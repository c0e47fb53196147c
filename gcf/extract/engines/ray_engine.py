"""The engine that is a Ray cluster: networks are loaded here for their recipes, and on every node for the work."""

import contextlib
import functools
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace

from gcf.data.parts import PartFolder
from gcf.data.plugin_files import PLUGIN_SUFFIX
from gcf.errors import GcfError
from gcf.extract.backbones.huggingface_names import absolute_name, is_huggingface
from gcf.extract.decoding.find import VideoPath
from gcf.extract.engines.ray_cluster import Cluster, signals_held
from gcf.extract.engines.ray_drive import POLL_SECONDS, Drive, Worker
from gcf.extract.engines.ray_faults import Fault, as_error, check_same, last_line
from gcf.extract.engines.ray_worker import MARKER, Model, RayWorker, WorkerJob, recipe_on_node
from gcf.extract.stream.config import PRECISIONS, ExtractConfig
from gcf.extract.stream.pipeline import load_network
from gcf.extract.stream.run import ExtractionRun


class RayEngine:
    """Loads the networks here for their recipes, and on every node for the work."""

    def __init__(self, config: ExtractConfig, cluster: Cluster):
        self.config, self.cluster, self.ray = config, cluster, cluster.ray

    def load(self, models: Sequence[tuple[str, str]]) -> list[tuple[dict, list[str] | None]]:
        """Of every (backbone, weights) the recipe that all workers must make too, and the backbone's class names."""
        self.models = []
        return [self._load(*map(_for_all_nodes, model)) for model in models]

    def _load(self, backbone: str, weights: str) -> tuple[dict, list[str] | None]:
        device = "cuda" if self.cluster.gpus else "cpu"
        here = device if has_device(device) else "cpu"
        network, recipe = load_network(backbone, weights, replace(self.config, device=here))
        if here != device:
            model = Model(backbone, weights, replace(self.config, device=device))
            recipe = self._recipe_of_a_node(model, recipe, {*network.backbone.recipe, "versions"})
        if is_huggingface(backbone):
            weights = recipe["weights"]  # the commit, so that all nodes have it, even if the repository moves on
        precision, runtime = self.config.precision, self.config.runtime  # of the runtime a node says why not
        if recipe["precision"] in PRECISIONS:
            precision = recipe["precision"]
        if recipe["runtime"] == "torch":
            runtime = "torch"
        pinned = replace(
            self.config,
            device=device,
            precision=precision,
            runtime=runtime,
            batch_size=recipe["batch_size"],
            workers=self.config.workers or self.cluster.cpus,
        )
        self.models.append(Model(backbone, weights, pinned))
        return recipe, network.backbone.recipe.get("classes")

    def _recipe_of_a_node(self, model: Model, ours: dict, shared: set[str]) -> dict:
        """The recipe as a node with a GPU makes it, for a driver that has none; its `shared` entries must be ours."""
        options = {"num_cpus": self.cluster.cpus, "num_gpus": 1}
        task = self.ray.remote(recipe_on_node).options(**options, max_retries=1)
        try:
            with signals_held() as deliver:
                answer = task.remote(model)
                while not self.ray.wait([answer], timeout=POLL_SECONDS)[0]:
                    deliver()
                made = self.ray.get(answer)
        except self.ray.exceptions.RayError as error:
            raise GcfError(f"Ray worker: cannot load the network ({last_line(error)})") from None
        if isinstance(made, Fault):
            raise as_error(made)
        theirs = {key: value for key, value in made.items() if key in shared}
        check_same("a node with a GPU", theirs, {key: value for key, value in ours.items() if key in shared})
        return made

    def work(self, runs: Sequence[ExtractionRun], todo: list[VideoPath], bar) -> None:
        """Bring `todo` to a committed state on the cluster; stopped, the workers commit what they have."""
        token = secrets.token_hex(8)
        with contextlib.ExitStack() as stack:
            for run in runs:
                stack.enter_context(_marked(run.parts, token))
            start, least = functools.partial(self._start, runs, token), 2 * self.models[0].config.workers
            deliver = stack.enter_context(signals_held())
            drive = Drive(self.cluster, runs, todo, bar, start, deliver, least)
            try:
                drive.loop()
            except BaseException:
                drive.stop()
                raise
            finally:
                drive.end()
            drive.await_parts()

    def _start(self, runs: Sequence[ExtractionRun], token: str, sample: str) -> Worker:
        """Ask Ray for one more worker; it is placed when there is room."""
        writer = secrets.token_hex(4)
        job = WorkerJob(
            outs=[os.path.abspath(run.parts.out) for run in runs],
            run=token,
            writer=writer,
            models=self.models,
            threads=self.cluster.cpus,
            sample=sample,
        )
        options = {"num_cpus": self.cluster.cpus, "num_gpus": int(self.cluster.gpus), "scheduling_strategy": "SPREAD"}
        actor = self.ray.remote(RayWorker).options(**options, max_concurrency=4, max_restarts=0).remote(job)
        return Worker(actor, writer, actor.prepare.remote())


def _for_all_nodes(name: str) -> str:
    """A backbone or weights as workers must name them, which work in folders of their own."""
    if is_huggingface(name):
        return absolute_name(name)
    return os.path.abspath(name) if name.endswith(PLUGIN_SUFFIX) or os.path.isfile(name) else name


@contextlib.contextmanager
def _marked(parts: PartFolder, token: str) -> Iterator[None]:
    """A marker file that the workers of this run, and only those, look for; markers of runs that died are removed."""
    for path in parts.folder.glob(f"{MARKER}*"):
        path.unlink(missing_ok=True)
    marker = parts.folder / f"{MARKER}{token}"
    with parts.room_needed(0):
        marker.touch()
    try:
        yield
    finally:
        marker.unlink(missing_ok=True)


def has_device(device: str) -> bool:
    """Whether this machine has a GPU, if one is asked for."""
    import torch

    return device == "cpu" or torch.cuda.is_available()
