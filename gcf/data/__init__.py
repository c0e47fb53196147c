"""The feature cache, annotations and splits. Knows no network and never imports torch."""
