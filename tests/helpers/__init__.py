"""Helpers that several test files share: cases, references written a second time, files to read, processes to kill."""
