"""Videos into clips: which files, their frames, the processes that decode them, and what is believed of those."""
