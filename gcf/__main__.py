"""`python -m gcf` is `gcf`."""

from gcf.cli import main

main()
