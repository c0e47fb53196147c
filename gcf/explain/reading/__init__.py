"""Videos through backbone and head: descriptors, evidence, intervals, heat maps. Draws and measures nothing."""
