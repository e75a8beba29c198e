"""The hosts, each with a sampler slot in its blocks."""
