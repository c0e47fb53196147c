"""Pages of a localisation: one HTML page per video that needs nothing else, and a gallery of them."""
