"""``video-ats merge-predictions``, from a checkout."""

from video_ats.cli import run_command

if __name__ == "__main__":
    run_command("merge-predictions")
