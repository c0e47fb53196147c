"""Type errors by mypy: none in what others build on, and elsewhere no more than there were.

    python scripts/check_types.py [--write]

--write notes the number of today in scripts/type_errors.txt, where it is smaller. It may only fall.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KNOWN = Path(__file__).with_name("type_errors.txt")
CLEAN = re.compile(r"gcf/(data|head/models|commands)/|gcf/[a-z_]+\.py")
ERROR = re.compile(r"^gcf/.*: error: ")


def main() -> None:
    """Print what is new, and the count; exit code 1 where it has risen, or what must be clean is not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    command = [sys.executable, "-m", "mypy"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ERROR.match(line)]
    if not errors and done.returncode:
        sys.exit(done.stdout + done.stderr)
    unclean = [line for line in errors if CLEAN.match(line)]
    known = int(KNOWN.read_text())
    print(*unclean, f"{len(errors)} type errors, {known} are known, {len(unclean)} where none may be", sep="\n")
    if args.write and len(errors) < known:
        KNOWN.write_text(f"{len(errors)}\n")
    if len(errors) > known and not unclean:
        print(*errors, sep="\n")
    sys.exit(bool(unclean) or len(errors) > known)


if __name__ == "__main__":
    main()
