"""``video-ats export``, from a checkout."""

from video_ats_command import run

if __name__ == "__main__":
    run("export")
