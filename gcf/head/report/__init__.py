"""The report of a run: one HTML page that needs nothing else, its plots as PNG, its tables as md, csv and LaTeX."""
