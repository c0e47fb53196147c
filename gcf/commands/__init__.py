"""The commands of `gcf`: options, help, a late import and one call each; `gcf.cli` gathers them."""
