"""What is handed to others: the wheel, and the files that say who may use it and how it is changed."""

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import gcf

ROOT = Path(__file__).resolve().parents[1]
CHECK = ROOT / "scripts" / "check_wheel.py"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built from a copy, so that the checkout gets no build folder."""
    folder = tmp_path_factory.mktemp("wheel")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout to build from")
    for name in listed.stdout.splitlines():
        if name.startswith(("gcf/", "tests/")) or "/" not in name:
            target = folder / "source" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(folder / "source")], check=True, timeout=600)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_what_is_needed_and_nothing_else(wheel):
    subprocess.run([sys.executable, str(CHECK), str(wheel)], check=True)


@pytest.mark.slow
def test_a_wheel_with_tests_or_without_templates_is_seen(wheel, tmp_path):
    spoilt = tmp_path / wheel.name
    with zipfile.ZipFile(wheel) as good, zipfile.ZipFile(spoilt, "w") as bad:
        for name in good.namelist():
            if "head/report/templates" not in name:
                bad.writestr(name, good.read(name))
        bad.writestr("tests/test_x.py", "")
    run = subprocess.run([sys.executable, str(CHECK), str(spoilt)], capture_output=True, text=True)
    assert run.returncode == 1
    assert "lacks gcf/head/report/templates/" in run.stderr
    assert "holds tests/test_x.py" in run.stderr


@pytest.mark.slow
def test_what_is_installed_from_the_wheel_runs(wheel, tmp_path):
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "lib")]
    subprocess.run([*install, str(wheel)], check=True, timeout=600)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'lib')!r}); import gcf, gcf.cli; print(gcf.__file__); "
        "print(len(gcf.load_backbone('shufflenetv2_0.25x', 'primitives').recipe['classes']))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    place, classes = run.stdout.splitlines()
    assert Path(place).is_relative_to(tmp_path / "lib")
    assert classes == "11"


def test_the_version_is_the_same_wherever_it_stands():
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## ([0-9.]+) - \d{4}-\d\d-\d\d$", changelog, re.M).group(1) == gcf.__version__
    assert f"\nversion: {gcf.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_hooks_run_the_tools_that_the_project_pins():
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    (ruff,) = (line for line in dev if line.startswith("ruff"))
    least, below = re.fullmatch(r"ruff>=(\d+\.\d+),<(\d+\.\d+)", ruff).groups()
    pinned = re.search(r"ruff-pre-commit\n\s+rev: v(\d+\.\d+)\.\d+", (ROOT / ".pre-commit-config.yaml").read_text())
    assert least <= pinned.group(1) < below


def test_the_licence_is_in_the_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert all((ROOT / name).is_file() for name in project["license-files"])
