"""What is in videos: labels, windows of long videos, embeddings; no labels are needed."""
