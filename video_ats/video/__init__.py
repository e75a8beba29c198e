"""From a video file to normalised views. Knows nothing of tokens or models."""
