"""Time and GFLOPs of models, dense and sampled."""
