"""Python files that users bring: run once, as modules, with faults told in one line."""

import hashlib
import importlib.util
import inspect
import os
import sys
import traceback
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from gcf.errors import UsageError

PLUGIN_SUFFIX = ".py"


class _Uncompiled(SourceFileLoader):
    """Runs what the file says. A compiled copy in __pycache__ beside it may say something else."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002 - importlib's signature
        """The file as it is now, compiled; nothing is kept."""
        return self.source_to_code(self.get_data(self.path), self.path)


def run_plugin_file(name: str | os.PathLike) -> ModuleType:
    """The module that the file is. Raises UsageError where it is not there or cannot be run."""
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{path}: no such plug-in file")
    label = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:12]
    full_name = f"gcf_plugin_{path.stem}_{label}"
    loader = _Uncompiled(full_name, os.fspath(path))
    spec = importlib.machinery.ModuleSpec(full_name, loader, origin=os.fspath(path))
    spec.has_location = True
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickles look their module up there
    try:
        loader.exec_module(module)
    except Exception as error:  # the user's own code: any exception is theirs to see, in one line
        del sys.modules[spec.name]
        raise UsageError(f"{path}: cannot be run ({told(error)}){line_in(path, error)}") from error
    return module


def code_sha256(plugin: object) -> str | None:
    """Of the file that the plug-in is written in: its code decides the numbers as much as its weights do."""
    module = plugin if isinstance(plugin, ModuleType) else inspect.getmodule(plugin)
    path = getattr(module, "__file__", None)
    return hashlib.sha256(Path(path).read_bytes()).hexdigest() if path else None


def told(error: Exception) -> str:
    """An exception in words: its type and what it says."""
    return f"{type(error).__name__}: {error}"


def line_in(path: str | os.PathLike, error: Exception) -> str:
    """Where in the file an exception arose, as ", line 3"; '' where it did not pass through the file."""
    if isinstance(error, SyntaxError):
        return f", line {error.lineno}" if error.filename == os.fspath(path) else ""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename) == Path(path)]
    return f", line {lines[-1]}" if lines else ""
