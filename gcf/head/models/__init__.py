"""Heads: descriptors of a video's clips -> logits. What they are, how they are built, saved and checked.

Knows no training and no feature file beyond its recipe and clips.
"""
