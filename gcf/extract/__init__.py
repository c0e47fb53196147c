"""Video to descriptors: decoding, clips, preprocessing, backbones, weights and the extraction engine."""
