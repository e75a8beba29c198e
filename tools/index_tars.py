"""``video-ats index-tars``, from a checkout."""

from video_ats.cli import run_command

if __name__ == "__main__":
    run_command("index-tars")
