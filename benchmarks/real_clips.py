"""Names of the real clips that benchmarks read from a folder, in order."""

import sys
from pathlib import Path

# Kinetics-400 label indices.
KINETICS = {
    "R6llTwEh07w.mp4": 375,
    "SOX5yA1l24A.mp4": 375,
    "WUzgd7C1pWA.mp4": 375,
    "arm_wrestling_demo.mp4": 6,
    "flipping_a_pancake.mkv": 129,
}
# From UCF-101 and HMDB-51, to make batches of eight; their labels have no meaning.
OTHERS = dict.fromkeys(
    (
        "v_SoccerJuggling_g23_c01.avi",
        "v_SoccerJuggling_g24_c01.avi",
        "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi",
    ),
    0,
)


def write_list(path: Path, clips: dict[str, int]) -> Path:
    """Write a list of ``path label`` lines; returns its path."""
    path.write_text("".join(f"{name} {label}\n" for name, label in clips.items()))
    return path


def videos_folder() -> str:
    """The folder on the command line; without one, the program ends with an error."""
    given = sys.argv[1:]
    if len(given) != 1 or not Path(given[0]).is_dir():
        sys.exit(f"VIDEOS {' '.join(given) or 'not given'}: must be one folder, which holds the clips of real_clips.py")
    return given[0]
