"""Descriptors to logits: heads, training, evaluation and comparison. Never imports gcf.extract."""
