"""What every run shares: settings, views, weights, device and precision, metrics, the files of a run."""
