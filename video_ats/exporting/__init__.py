"""Models of fixed shapes, for other runtimes."""
