"""Pictures and HTML pages from arrays and text, without knowledge of videos, tokens and models."""
