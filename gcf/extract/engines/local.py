"""The engine that is one process: its networks, its decoder processes."""

from collections.abc import Sequence

from gcf.extract.decoding.find import VideoPath, size_on_disk
from gcf.extract.stream.config import ExtractConfig
from gcf.extract.stream.pipeline import load_network
from gcf.extract.stream.run import ExtractionRun, work


class LocalEngine:
    """Loads the networks here and runs everything through them."""

    def __init__(self, config: ExtractConfig):
        self.config = config

    def load(self, models: Sequence[tuple[str, str]]) -> list[tuple[dict, list[str] | None]]:
        """Of every (backbone, weights) the recipe, and the names of the backbone's classes where it has them."""
        loaded = [load_network(backbone, weights, self.config) for backbone, weights in models]
        self.networks = [network for network, _ in loaded]
        return [(recipe, network.backbone.recipe.get("classes")) for network, recipe in loaded]

    def work(self, runs: Sequence[ExtractionRun], todo: list[VideoPath], bar) -> None:
        """Extract and commit `todo`; over several devices the largest files first, so that none ends alone."""
        if len(self.config.devices) > 1:
            todo = sorted(todo, key=lambda video: -size_on_disk(video.path))
        work(runs, self.networks, todo, bar)
