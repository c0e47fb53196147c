"""Where the work of an extraction is done: on this machine, or on the nodes of a Ray cluster."""

from collections.abc import Iterator
from contextlib import contextmanager

from gcf.extract.engines.local import LocalEngine
from gcf.extract.stream.config import ExtractConfig


@contextmanager
def open_engine(config: ExtractConfig) -> Iterator:
    """What loads networks and brings videos to a committed state; the bytes do not depend on which it is.

    An engine has `load([(backbone, weights), ...]) -> [(recipe, backbone classes), ...]` and `work(runs, todo, bar)`.
    """
    if config.engine == "local":
        yield LocalEngine(config)
        return
    from gcf.extract.engines.ray_cluster import connected  # late: Ray is an extra
    from gcf.extract.engines.ray_engine import RayEngine

    with connected(config) as cluster:
        yield RayEngine(config, cluster)
