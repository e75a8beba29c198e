"""From logits to a claim: views to videos, one decoding pass for many settings, the report."""
