"""Experiments: which arms there are, all of them on all splits with all seeds, and the results, stored.

Gives one result for each arm and seed; knows no table.
"""
