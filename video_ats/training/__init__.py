"""Fine-tuning: configuration, clips, training run, saved state."""

from video_ats.extras import require_extra

require_extra("train", "accelerate", "tensorboard", "torchvision")
