"""Fine-tuning: configuration, clips, training run, saved state. All but the configuration needs the extra ``train``."""
