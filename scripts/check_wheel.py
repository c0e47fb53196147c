"""Whether a wheel holds what an installed gcf needs, and nothing else.

python scripts/check_wheel.py dist/gcf_net-*.whl
"""

import sys
import zipfile

NEEDED = (
    "gcf/__main__.py",
    "gcf/py.typed",
    "gcf/extract/backbones/classes/kinetics600.txt",
    "gcf/extract/backbones/packaged/shufflenetv2_0.25x_primitives.safetensors",
    "gcf/explain/pages/templates/",
    "gcf/head/report/templates/",
    ".dist-info/licenses/LICENSE",
    ".dist-info/licenses/NOTICE",
    ".dist-info/entry_points.txt",
)


def faults(wheel: str) -> list[str]:
    """What is missing from a wheel, and what has no place in it."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    missing = [f"lacks {part}" for part in NEEDED if not any(part in name for name in names)]
    foreign = [f"holds {name}" for name in names if not name.startswith(("gcf/", "gcf_net-"))]
    tests = [f"holds {name}" for name in names if "/test" in name or name.startswith("test")]
    return [*missing, *foreign, *tests]


if __name__ == "__main__":
    found = faults(sys.argv[1])
    sys.exit("\n".join(found) or 0)
