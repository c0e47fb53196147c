"""The engine that is one process: its network, its decoder processes."""

from gcf.extract.config import ExtractConfig
from gcf.extract.find import size_on_disk
from gcf.extract.pipeline import load_network


class LocalEngine:
    """Loads the network here and runs everything through it."""

    def __init__(self, config: ExtractConfig):
        self.config = config

    def load(self, backbone: str, weights: str) -> tuple[dict, list[str] | None]:
        """The recipe, and the names of the backbone's classes where it has them."""
        self.network, recipe = load_network(backbone, weights, self.config)
        return recipe, self.network.backbone.recipe.get("classes")

    def work(self, run, todo, bar) -> None:
        """Extract and commit `todo`; over several devices the largest files first, so that none ends alone."""
        if len(self.config.devices) > 1:
            todo = sorted(todo, key=lambda video: -size_on_disk(video.path))
        run.work(todo, self.network, bar)
