"""Views to videos: summed logits, or averaged probabilities."""

import numpy as np
import pytest
import torch

from video_ats.runs.forward import combine_views

# One view is sure of class 0, two lean towards class 1: the sum of logits follows the one, probabilities the two.
ONE_SURE_TWO_LEANING = torch.tensor([[9.0, 0.0], [0.0, 2.0], [0.0, 2.0]])


def test_summed_logits_against_numpy() -> None:
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(1))
    expected = logits.numpy().astype(np.float64).sum(axis=0)
    np.testing.assert_allclose(combine_views(logits).numpy(), expected, atol=1e-5)


def test_softmax_against_numpy() -> None:
    logits = torch.randn(6, 11, generator=torch.Generator().manual_seed(1))
    exponentials = np.exp(logits.numpy().astype(np.float64))
    expected = (exponentials / exponentials.sum(axis=1, keepdims=True)).mean(axis=0)
    combined = combine_views(logits, "softmax").numpy()
    np.testing.assert_allclose(combined, expected, atol=1e-6)
    assert combined.sum() == pytest.approx(1)


def test_the_two_differ_where_one_view_is_sure() -> None:
    assert combine_views(ONE_SURE_TWO_LEANING, "logits").argmax() == 0
    assert combine_views(ONE_SURE_TWO_LEANING, "softmax").argmax() == 1


def test_summed_logits_are_the_default() -> None:
    assert torch.equal(combine_views(ONE_SURE_TWO_LEANING), combine_views(ONE_SURE_TWO_LEANING, "logits"))


@pytest.mark.parametrize("ensemble", ["logits", "softmax"])
def test_half_precision_is_combined_in_float32(ensemble: str) -> None:
    logits = torch.tensor([[256.0, 1.0], [1.0, 1.0]]).bfloat16()  # 257 is no bfloat16
    combined = combine_views(logits, ensemble)
    assert combined.dtype is torch.float32
    assert torch.equal(combined, combine_views(logits.float(), ensemble))
