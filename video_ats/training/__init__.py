"""Fine-tuning: recipe, data, loop, saved state."""
