"""Videos through decoders and networks into part files: batches across videos, resume, merge. Knows no engine."""
