"""Tables and plots: from results to figures with intervals and p, as text, CSV, LaTeX and pictures.

Trains nothing.
"""
