"""Predictions, costs and kept patches of single videos, with and without samplers."""
