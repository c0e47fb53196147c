"""What localisations leave on disk: arrays, tables, folders. Draws nothing itself."""
