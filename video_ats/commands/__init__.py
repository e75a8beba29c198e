"""What each ``video-ats`` command does: parse, call one library function, print. A file a command, with a ``main``."""
