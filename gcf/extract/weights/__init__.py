"""Weights: what is published and where, downloads, and checkpoints that may be a stranger's."""
