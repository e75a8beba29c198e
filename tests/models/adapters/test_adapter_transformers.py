"""transformers' models with samplers, as people use them: loss, hidden states, saving, tuples, refusals."""

import inspect
from dataclasses import replace

import pytest
import torch
import transformers
from helpers.adapter_cases import (
    DEPTH,
    HOSTS,
    TRANSFORMERS,
    counted_macs,
    inputs,
    logits_of,
    spread,
    timesformer,
    videomae,
    videoprism,
    vivit,
    vjepa2,
)
from safetensors.torch import load_file
from torch import nn

from video_ats import SamplerConfig, insert_samplers_, remove_samplers_
from video_ats.models.features import forward_features, forward_head
from video_ats.models.trace import trace_of

SOME = SamplerConfig(kind="topk", blocks=(1, 3), samples=6)
hosts = pytest.mark.parametrize("name", TRANSFORMERS)


@hosts
def test_loss_tuple_and_signature(name):
    model, clips = HOSTS[name](), inputs(name)
    signature = inspect.signature(model.forward)
    insert_samplers_(model, SOME)
    assert inspect.signature(model.forward) == signature
    given = {model.main_input_name: clips}
    rows = len(model(**given).logits)
    labels = torch.arange(rows) % 3
    output = model(**given, labels=labels)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(logits_of(output), labels))
    output.loss.backward()
    assert model.classifier.weight.grad.any()
    as_tuple = model(clips, return_dict=False)
    assert torch.equal(as_tuple[0], output.logits)


@hosts
@torch.no_grad()
def test_hidden_states_are_of_the_tokens_that_are_left(name):
    model, clips = HOSTS[name](), inputs(name)
    whole = model(clips, output_hidden_states=True).hidden_states
    insert_samplers_(model, SOME)
    output, trace = trace_of(model, clips, output_hidden_states=True)
    states = output.hidden_states
    assert [state.shape for state in states] == [state.shape for state in whole]
    torch.testing.assert_close(states[1], whole[1], rtol=0, atol=1e-4)  # before the first sampler
    for block in range(DEPTH - 1):
        assert int((~states[1 + block].isnan().any(dim=-1)).sum()) == int(trace.kept[block].sum()) + leading(name)
    assert states[-1].isfinite().all()


def leading(name):
    """Class tokens of two clips of four frames."""
    return {"space": 8, "videomae": 0, "vjepa2": 0, "videoprism": 0}.get(name, 2)


@hosts
@torch.no_grad()
def test_saved_and_loaded_again(name, tmp_path):
    model, clips = HOSTS[name](), inputs(name)
    model.save_pretrained(tmp_path / "before")
    expected = model(clips).logits
    insert_samplers_(model, SOME)
    model.save_pretrained(tmp_path / "after")
    before, after = (load_file(tmp_path / when / "model.safetensors") for when in ("before", "after"))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    loaded = type(model).from_pretrained(tmp_path / "after")
    assert torch.equal(loaded(clips).logits, expected)
    sampled = insert_samplers_(loaded, SOME)(clips).logits
    assert torch.equal(sampled, model(clips).logits)


@hosts
def test_attention_matrices_are_refused(name):
    model, clips = insert_samplers_(HOSTS[name](), SOME), inputs(name)
    with pytest.raises(ValueError, match=r"gives no attention matrices.*remove_samplers_ first"):
        model(clips, output_attentions=True)
    remove_samplers_(model)(clips)


@torch.no_grad()
def test_eager_attention_is_patched_alike():
    for build in (vivit, videomae):
        model = build(attn_implementation="eager")
        expected = build()
        clips = inputs("vivit")
        # From the first layer on: those before the first sampler run themselves, by the attention they were made with.
        insert_samplers_(model, replace(SOME, blocks=range(DEPTH)))
        insert_samplers_(expected, replace(SOME, blocks=range(DEPTH)))
        assert torch.equal(model(clips).logits, expected(clips).logits)


@torch.no_grad()
def test_the_head_of_videomae_reads_the_mean_of_what_is_left():
    model, clips = insert_samplers_(videomae(), SOME), inputs("videomae")
    seen = []
    model.fc_norm.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    output, trace = trace_of(model, clips, output_hidden_states=True)
    left = trace.kept[-1].flatten(1)
    states = output.hidden_states[-1]
    for clip in range(2):
        torch.testing.assert_close(seen[0][clip], states[clip][left[clip]].mean(dim=0), rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_head_of_vjepa2_counts_a_merged_token_as_the_patches_it_stands_for():
    """As if the query read a token once for each of them."""
    model, clips = insert_samplers_(vjepa2(num_pooler_layers=0), SamplerConfig("similar", samples=6)), inputs("vjepa2")
    output, trace = trace_of(model, clips)
    features = model.vjepa2(clips, skip_predictor=True).last_hidden_state
    for clip, (kept, stands) in enumerate(zip(trace.kept[-1].flatten(1), trace.stands[-1].flatten(1), strict=True)):
        assert 1 < int(kept.sum()) < len(kept)
        remove_samplers_(model)
        expected = model.classifier(model.pooler(features[clip : clip + 1, stands]))
        torch.testing.assert_close(output.logits[clip : clip + 1], expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_model_of_vjepa2_gives_embeddings_without_its_predictor():
    model, clips = vjepa2().vjepa2, inputs("vjepa2")
    dense = model(clips, skip_predictor=True).last_hidden_state
    insert_samplers_(model, SOME)
    with pytest.raises(ValueError, match=r"VJEPA2Predictor: reads all tokens.*pass skip_predictor=True"):
        model(clips)
    states = model(clips, skip_predictor=True).last_hidden_state
    assert states.shape == dense.shape
    kept = trace_of(model, clips, skip_predictor=True)[1].kept[-1].flatten(1)
    for clip in range(2):  # the mean over all is that over the tokens that are left
        torch.testing.assert_close(states[clip].mean(dim=0), states[clip][kept[clip]].mean(dim=0), rtol=0, atol=1e-5)


@pytest.mark.parametrize("config", [SOME, SamplerConfig("similar", samples=6)])
@torch.no_grad()
def test_the_features_of_videoprism_are_those_of_what_is_left(config):
    """So that the mean over all is that over the patches of the tokens that are left; no later layer sees others."""
    model, clips = insert_samplers_(videoprism().vision_model, config), inputs("videoprism")
    output, trace = trace_of(model, clips)
    kept, stands = trace.kept[-1].flatten(1), trace.tokens_of_patches(-1).flatten(1)
    for clip, states in enumerate(output.last_hidden_state):
        assert 1 < int(kept[clip].sum()) < kept[clip].numel()
        of_patches = states[stands[clip][stands[clip] >= 0]]
        torch.testing.assert_close(states.mean(dim=0), of_patches.mean(dim=0), rtol=0, atol=1e-5)


def clip_of_videoprism():
    text = {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 1, "vocab_size": 8}
    return transformers.VideoPrismConfig(vision_config=videoprism().config.to_dict(), text_config=text)


@pytest.mark.parametrize("config", [SOME, SamplerConfig("similar", scope="tube", samples=6)])
def test_the_video_model_of_videoprism_embeds_what_is_left(config):
    """Its joint layers and its head, by the host's own code on the tokens that are left, which need not be merged."""
    model = spread(transformers.VideoPrismVideoModel(videoprism().config)).requires_grad_(False)
    clip, dense = inputs("videoprism", 1), None
    dense = model(clip).pooler_output[:, 0]
    insert_samplers_(model, SamplerConfig("topk", blocks=range(DEPTH), samples=1000))
    torch.testing.assert_close(model(clip).pooler_output[:, 0], dense, rtol=0, atol=1e-5)
    insert_samplers_(model, config)
    output, trace = trace_of(model, clip)
    assert (output.pooler_output[:, 0] - dense).abs().max() > 1e-3
    if config.scope == "tube":
        assert int(trace.macs()) == counted_macs(lambda: model(clip)) < int(trace.dense_macs())
    torch.testing.assert_close(forward_head(model, forward_features(model, clip)), output.pooler_output[:, 0])
    insert_samplers_(model.vision_model, config)
    tokens = model.vision_model(clip).last_hidden_state[:, trace.kept[-1].flatten()]
    remove_samplers_(model)
    for layer in model.auxiliary_layers:
        tokens = layer(tokens)
    torch.testing.assert_close(output.last_hidden_state[:, trace.kept[-1].flatten()], tokens, rtol=0, atol=1e-4)
    often = trace.tokens_of_patches(-1).flatten()
    read = output.last_hidden_state[:, often[often >= 0]]
    expected = model.head_layernorm(model.head(read)[0])[:, 0]
    torch.testing.assert_close(output.pooler_output[:, 0], expected / expected.norm(), rtol=0, atol=1e-5)


def test_videoprism_of_one_frame_needs_its_positions_resized():
    """The host itself repeats the frame then, once for each of its positions in time."""
    model, frame = insert_samplers_(videoprism(), SOME), inputs("videoprism")[:, :1]
    with pytest.raises(ValueError, match=r"is the input of the size that the model was made for"):
        model(frame)
    assert trace_of(model, frame, interpolate_pos_encoding=True)[1].kept[-1].shape[1] == 1
    with pytest.raises(ValueError, match=r"attention dropout 0.1 in training"):
        insert_samplers_(videoprism(attention_probs_dropout_prob=0.1), SOME).train()(inputs("videoprism"))


@torch.no_grad()
def test_vjepa2_takes_more_frames_than_its_configuration_says():
    model = vjepa2()
    clips = torch.cat([inputs("vjepa2"), inputs("vjepa2", seed=1)], dim=1)
    dense = model(clips).logits
    insert_samplers_(model, SamplerConfig("topk", blocks=range(DEPTH), samples=1000))
    torch.testing.assert_close(model(clips).logits, dense, rtol=0, atol=1e-4)
    _, trace = trace_of(insert_samplers_(model, SOME), clips)
    assert trace.kept[0].shape[1] == 4
    assert int(trace.kept[-1].sum()) == 2 * 4 * 6


@torch.no_grad()
def test_dense_costs_are_the_hosts_own():
    """Divided attention aside, where the host computes the class token once a frame and we once a clip."""
    for name in ("joint", "space", "vivit", "videomae", "vjepa2", "videoprism"):
        model, clips = HOSTS[name]().requires_grad_(False), inputs(name, 1)
        _, trace = trace_of(model, clips)
        assert int(trace.macs()) == counted_macs(lambda model=model, clips=clips: model(clips)), name


def wrapped():
    return nn.DataParallel(HOSTS["vivit"]())


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (wrapped, r"it is a wrapper; pass what it wraps, its \.module \(VivitForVideoClassification\)"),
        (lambda: videomae(use_mean_pooling=False), "its head reads the first patch"),
        (lambda: transformers.VideoPrismClipModel(clip_of_videoprism()), "into its video_model, in place; pass that"),
        (lambda: HOSTS["divided"]().timesformer.encoder, "pass the model itself, not its wrapper or a part of it"),
        (
            lambda: transformers.SwinForImageClassification(transformers.SwinConfig(depths=[1], num_heads=[1])),
            "runs in windows",
        ),
    ],
)
def test_models_that_do_not_fit(build, reason):
    with pytest.raises(TypeError, match=rf"{reason}.*supported are .*VideoMAE, V-JEPA 2 and") as error:
        insert_samplers_(build(), SOME)
    assert "\n" not in str(error.value)


def test_quantised_and_offloaded_layers_are_refused():
    model = timesformer("divided_space_time")
    model.timesformer.encoder.layer[1].attention.attention.qkv = nn.Sequential(nn.Linear(24, 72))
    with pytest.raises(TypeError, match=r"qkv is Sequential, not nn\.Linear"):
        insert_samplers_(model, SOME)
    model = videomae()
    model.videomae.encoder.layer[0]._hf_hook = object()
    with pytest.raises(TypeError, match="load it without device_map"):
        insert_samplers_(model, SOME)


def test_a_replica_on_another_device_is_refused():
    model = insert_samplers_(videomae(), SOME)
    with pytest.raises(RuntimeError, match=r"cannot be replicated by nn\.DataParallel"):
        model.videomae.encoder.layer[0](torch.zeros(1, 32, 24, device="meta"))
