"""The frozen network at work: its pixels, its precision and runtime, and several of them side by side."""
