"""Measures of localisation against annotated truth: mAP, pointing, faithfulness, and their baselines."""
