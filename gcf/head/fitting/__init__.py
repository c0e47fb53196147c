"""Training: labelled videos in batches, and many heads that learn from them in one pass.

Gives fitted heads and predictions; knows no comparison and no table.
"""
