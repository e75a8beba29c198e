"""One video looked at: what a model says of it and what it reads of it, with and without samplers."""
