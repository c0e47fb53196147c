"""Networks fetched by transformers' own code from a hub: revisions, the cache, and what is said where that fails."""

import json
import os
import subprocess
import sys

import hf_models
import pytest
import torch
from hf_models import CLASSIFIERS
from hub_server import COMMITS, serving

from gcf.extract.backbones import load_backbone

pytestmark = pytest.mark.slow

LOAD = (
    "import sys, json; from gcf.errors import GcfError; from gcf.extract.backbones import load_backbone\n"
    "try: print(json.dumps(load_backbone(sys.argv[1], weights=sys.argv[2]).recipe))\n"
    "except GcfError as error: sys.exit(f'{type(error).__name__}: {error}')"
)
REPOSITORY = "someone/tuned"


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A hub with a repository of two revisions, one that is gated, and one whose weights are a pickle."""
    root = tmp_path_factory.mktemp("hub")
    for name in COMMITS:
        model = hf_models.saved(root / name, *CLASSIFIERS["videomae"], "videomae")
        if name == "v2":
            model.classifier.bias.data[0] += 1
            model.save_pretrained(root / name)
    old = root / "old"
    hf_models.saved(old, *CLASSIFIERS["vivit"], "vivit")
    (old / "model.safetensors").unlink()
    torch.save(hf_models.built(*CLASSIFIERS["vivit"]).state_dict(), old / "pytorch_model.bin")
    folders = {(REPOSITORY, commit): root / name for name, commit in COMMITS.items()}
    (root / "empty").mkdir()
    folders |= {(f"someone/{name}", COMMITS["main"]): root / name for name in ("old", "empty")}
    with serving(folders, gated={"someone/gated"}) as server:
        server.root = root
        yield server


@pytest.fixture
def load(hub, tmp_path):
    """A function: load in a process of its own, whose hub is ours; (recipe, '') or (None, what was said)."""

    def run(name, weights="default", **more):
        ours = ("HF_", "HUGGING", "DISABLE_")
        clean = {k: v for k, v in os.environ.items() if not k.startswith(ours) and "proxy" not in k.lower()}
        places = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}
        done = subprocess.run(
            [sys.executable, "-W", "error::UserWarning", "-c", LOAD, name, weights],
            env=clean | places | more,
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert "Traceback" not in done.stderr
        return (json.loads(done.stdout), done.stderr) if done.returncode == 0 else (None, done.stderr)

    return run


@pytest.mark.slow
def test_a_repository_is_fetched_once_and_recorded_with_its_commit(hub, load):
    hub.asked.clear()
    recipe, said = load(f"hf:{REPOSITORY}")
    assert said == ""
    assert recipe["name"] == f"hf:{REPOSITORY}"
    assert recipe["weights"] == COMMITS["main"]
    here = load_backbone(f"hf:{hub.root / 'main'}").recipe
    assert recipe == here | {"name": recipe["name"], "weights": recipe["weights"]}
    assert all(REPOSITORY in path for path in hub.asked)  # neither telemetry nor a request to convert the file
    fetched = [path for path in hub.asked if "model.safetensors" in path]
    hub.asked.clear()
    assert load(f"hf:{REPOSITORY}") == (recipe, "")
    assert fetched
    assert not [path for path in hub.asked if "model.safetensors" in path]
    assert load(f"hf:{REPOSITORY}", HF_HUB_OFFLINE="1") == (recipe, "")


def test_a_revision_is_a_tag_or_the_commit_that_the_recipe_names(hub, load):
    tagged, _ = load(f"hf:{REPOSITORY}", "v2")
    assert tagged["weights"] == COMMITS["v2"]
    first, second = (load_backbone(f"hf:{hub.root / name}").recipe["weights_sha256"] for name in ("main", "v2"))
    assert first != second == tagged["weights_sha256"]
    assert load(f"hf:{REPOSITORY}", COMMITS["v2"]) == (tagged, "")


def test_weights_of_an_old_file_start_no_conversion_on_the_hub(hub, load):
    hub.asked.clear()
    recipe, said = load("hf:someone/old")
    assert (recipe["weights"], said) == (COMMITS["main"], "")
    assert all(path.startswith("/someone/old/resolve/") for path in hub.asked)


def test_random_weights_need_the_configuration_alone(hub, load):
    hub.asked.clear()
    recipe, said = load(f"hf:{REPOSITORY}", "random")
    assert recipe["weights"] == "random"
    assert "has random weights" in said
    assert not [path for path in hub.asked if "model.safetensors" in path]


@pytest.mark.parametrize(
    ("name", "weights", "more", "message"),
    [
        ("someone/none", "default", {}, "the hub has no such repository, or a private one: check the name"),
        ("someone/gated", "default", {}, "access must be asked for on its page on the hub; then log in"),
        (REPOSITORY, "v3", {}, "the repository has no revision 'v3'"),
        ("someone/new", "default", {"HF_HUB_OFFLINE": "1"}, "not in the cache, and"),
        ("someone/empty", "default", {}, "has no config.json; name a model's repository"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(load, name, weights, more, message):
    recipe, said = load(f"hf:{name}", weights, **more)
    assert recipe is None
    assert said.startswith(f"WeightsError: hf:{name}: {message}")
    assert len(said.splitlines()) == 1


REQUIRE = (
    LOAD.replace("json.dumps(load_backbone(sys.argv[1], weights=sys.argv[2]).recipe)", "json.dumps(REQUIRED)")
    .replace(
        "from gcf.extract.backbones import load_backbone",
        "from gcf.extract.backbones.huggingface import require_safetensors as require",
    )
    .replace("REQUIRED", "require(*sys.argv[1:3])")
)


def test_of_a_repository_that_only_a_head_names_no_pickle_is_read(hub, load, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "LOAD", REQUIRE)
    assert load(f"hf:{REPOSITORY}", COMMITS["v2"]) == (None, "")
    hub.asked.clear()
    found, said = load("hf:someone/old", COMMITS["main"])
    assert found is None
    assert said.startswith(f"WeightsError: hf:someone/old: has no weights as safetensors at {COMMITS['main']}")
    assert not [path for path in hub.asked if "pytorch_model.bin" in path]
