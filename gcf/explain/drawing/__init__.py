"""Pictures and overlay videos of what was read. Knows no measure."""
