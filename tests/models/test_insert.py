"""Samplers go into the slots of a model's blocks and out again."""

import pytest
from helpers.cases import ATTENTIONS, small_timesformer
from torch import nn

from video_ats.models.insert import insert_samplers_, remove_samplers_, sampling
from video_ats.models.timesformer import create_timesformer
from video_ats.tokens import SamplerConfig, TokenSampler


def filled(model: nn.Module) -> list[int]:
    """Indices of the blocks with a sampler."""
    return [index for index, block in enumerate(model.blocks) if isinstance(block.sampler, TokenSampler)]


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_both_verbs_return_the_same_model(attention: str) -> None:
    model = small_timesformer(attention)
    assert filled(model) == []
    assert insert_samplers_(model, SamplerConfig(blocks=(1, 2))) is model
    assert filled(model) == [1, 2]
    assert remove_samplers_(model) is model
    assert filled(model) == []


def test_inserting_again_replaces_all_earlier_samplers() -> None:
    model = small_timesformer("divided")
    insert_samplers_(model, SamplerConfig(blocks=(0, 1, 2), samples=9))
    insert_samplers_(model, SamplerConfig(kind="topk", blocks=(2, 3), samples=(4, 3)))
    assert filled(model) == [2, 3]
    assert [model.blocks[index].sampler.config.samples for index in (2, 3)] == [4, 3]
    assert {model.blocks[index].sampler.config.kind for index in (2, 3)} == {"topk"}


@pytest.mark.parametrize(("config", "within"), [(SamplerConfig(blocks=(2,)), [2]), (None, [])])
def test_for_a_while_the_model_has_just_the_samplers_named(config: SamplerConfig | None, within: list[int]) -> None:
    model = insert_samplers_(small_timesformer("divided"), SamplerConfig(blocks=(0, 1)))
    with sampling(model, config):
        assert filled(model) == within
    assert filled(model) == []
    with pytest.raises(KeyboardInterrupt), sampling(model, SamplerConfig(blocks=(1,))):
        raise KeyboardInterrupt
    assert filled(model) == []


def test_the_builder_inserts() -> None:
    model = create_timesformer(embed_dim=24, num_heads=3, depth=5, sampler=SamplerConfig())
    assert filled(model) == [3, 4]


def test_a_failed_insertion_leaves_the_samplers_that_were_there() -> None:
    model = insert_samplers_(small_timesformer("divided"), SamplerConfig(blocks=(1,)))
    with pytest.raises(ValueError, match=r"blocks \[4\]: the model has blocks 0 to 3"):
        insert_samplers_(model, SamplerConfig(blocks=(3, 4)))
    assert filled(model) == [1]


class OtherTransformer(nn.Module):
    """Has blocks, but no sampler slots."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(2, 2)])


@pytest.mark.parametrize(
    "module",
    [nn.Linear(2, 2), OtherTransformer(), nn.Sequential(small_timesformer("space"))],
    ids=lambda m: type(m).__name__,
)
def test_a_foreign_module_is_refused_in_one_line(module: nn.Module) -> None:
    for verb in (lambda: insert_samplers_(module, SamplerConfig()), lambda: remove_samplers_(module)):
        with pytest.raises(TypeError, match=f"^{type(module).__name__}: has no blocks with a sampler slot") as error:
            verb()
        assert "\n" not in str(error.value)
