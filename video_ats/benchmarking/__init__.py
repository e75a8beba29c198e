"""How fast: the time of a forward pass dense and sampled, on real clips, beside what the GFLOPs promise."""
