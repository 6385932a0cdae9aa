"""Pairs of points, and the loss of matching them."""

from __future__ import annotations

import torch
from tiny_datasets import dots
from torch.nn.functional import normalize

from t4g_tracker.coordinates import centred_offset, pixels_to_cells
from t4g_tracker.matching.cost_maps import sample_vectors
from t4g_tracker.synthetic.clips import TrainingClip
from t4g_tracker.training.track4gen.correspondence import correspondence_loss, position_loss, sample_pairs
from t4g_tracker.training.track4gen.dataset import ClipBatch, collate_clips


def test_pairs_join_frames_that_both_see_the_point():
    clip = dots()
    visibility = torch.rand(clip.visibility.shape, generator=torch.Generator().manual_seed(3)) < 0.4
    batch = collate_clips([TrainingClip(clip.frames, clip.xy, visibility)] * 2)
    pairs = sample_pairs(batch, 16)
    frames = clip.xy.shape[1]
    for row in pairs.known.nonzero().squeeze(1).tolist():
        target = row // 16
        source, there = int(pairs.source[row]) % frames, target % frames
        point = int((clip.xy[:, source] - pairs.source_xy[row]).norm(dim=-1).argmin())
        assert int(pairs.source[row]) // frames == target // frames  # the same clip
        assert source != there
        assert visibility[point, source]
        assert visibility[point, there]
        assert torch.equal(clip.xy[point, there], pairs.target_xy[row])
    assert pairs.known.any()


def test_features_that_name_their_place_have_a_lower_loss_than_noise():
    clip = dots()
    batch = collate_clips([clip])
    pairs = sample_pairs(batch, 8)
    blurred = torch.nn.functional.avg_pool2d(clip.frames.float(), 8)
    noise = torch.randn(blurred.shape, generator=torch.Generator().manual_seed(0))
    found = correspondence_loss(blurred, pairs, (96, 128), 0.05).mean()
    lost = correspondence_loss(noise, pairs, (96, 128), 0.05).mean()
    assert found < 0.5 * lost


def plain_loss(features, pairs, size, temperature):
    """The same loss with every derivative left to PyTorch."""
    frames, channels, height, width = features.shape
    stride_px = size[0] / height
    offset_px = centred_offset(stride_px)
    vectors = features.permute(0, 2, 3, 1)
    queries = sample_vectors(vectors, pairs.source, pixels_to_cells(pairs.source_xy, stride_px, offset_px))
    cells = normalize(features, dim=1).flatten(2)
    similarity = (queries.view(frames, -1, channels) @ cells).flatten(0, 1)
    target = pixels_to_cells(pairs.target_xy, stride_px, offset_px)
    corner = torch.minimum(target.floor(), torch.tensor([width - 2.0, height - 2.0])).clamp_min(0).long()
    log_probability = torch.log_softmax(similarity / temperature, dim=1)
    loss = torch.zeros(len(target))
    for step in torch.cartesian_prod(torch.arange(2), torch.arange(2)):
        x, y = (corner + step).unbind(-1)
        share = (1 - (corner + step - target).abs()).clamp_min(0).prod(-1)
        loss = loss - share * log_probability.gather(1, (y * width + x)[:, None]).squeeze(1)
    return pairs.known * loss


def test_the_loss_and_its_gradient_are_those_of_plain_operations():
    batch = collate_clips([dots(4, (64, 96))] * 2)
    torch.manual_seed(0)
    pairs = sample_pairs(batch, 16)
    features = torch.randn(8, 32, 8, 12, generator=torch.Generator().manual_seed(0))
    gradients = []
    for loss in (correspondence_loss, plain_loss):
        given = features.clone().requires_grad_()
        value = loss(given, pairs, (64, 96), 0.05)
        value.mean().backward()
        gradients.append((value.detach(), given.grad))
    assert pairs.known.float().mean() > 0.5
    torch.testing.assert_close(gradients[0][0], gradients[1][0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients[0][1], gradients[1][1], atol=1e-6, rtol=1e-4)


def test_the_loss_is_computed_in_float32_under_autocast():
    generator = torch.Generator().manual_seed(0)
    batch = collate_clips([dots(4, (64, 64))])
    torch.manual_seed(0)
    pairs = sample_pairs(batch, 8)
    features = torch.randn(4, 16, 8, 8, generator=generator)
    plain = correspondence_loss(features, pairs, (64, 64), 0.05)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(correspondence_loss(features, pairs, (64, 64), 0.05), plain)


def test_unknown_pairs_cost_nothing():
    clip = dots()
    batch = ClipBatch(clip.frames[None], clip.xy[None], torch.zeros_like(clip.visibility)[None])
    pairs = sample_pairs(batch, 4)
    assert not pairs.known.any()
    assert float(correspondence_loss(torch.randn(6, 3, 12, 16), pairs, (96, 128), 0.05).sum()) == 0


def hiding_batch() -> ClipBatch:
    """Two clips of drifting dots, which are hidden in half of their frames, at random."""
    clip = dots()
    visibility = torch.rand(clip.visibility.shape, generator=torch.Generator().manual_seed(3)) < 0.5
    return collate_clips([TrainingClip(clip.frames, clip.xy, visibility)] * 2)


def test_the_asked_number_of_every_frames_pairs_is_hidden_in_it_and_seen_elsewhere():
    batch = hiding_batch()
    frames = batch.visibility.shape[2]
    pairs = sample_pairs(batch, 16, hidden=5)
    hidden = pairs.hidden.view(-1, 16)
    assert (hidden.sum(1) == 5).all()
    assert pairs.known.float().mean() > 0.9
    for row in pairs.known.nonzero().squeeze(1).tolist():
        clip, target, source = row // 16 // frames, row // 16 % frames, int(pairs.source[row]) % frames
        point = int((batch.xy[clip, :, target] - pairs.target_xy[row]).norm(dim=-1).argmin())
        assert batch.visibility[clip, point, source]
        assert batch.visibility[clip, point, target] != pairs.hidden[row]


def test_a_class_that_cannot_be_chosen_changes_no_loss_and_no_gradient():
    batch = hiding_batch()
    pairs = sample_pairs(batch, 16)
    features = torch.randn(12, 8, 12, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for not_here in (None, torch.tensor([-torch.inf])):
        given = features.clone().requires_grad_()
        loss = correspondence_loss(given, pairs, (96, 128), 0.05, not_here)
        loss.sum().backward()
        found.append((loss.detach(), given.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_a_hidden_point_costs_less_and_a_visible_one_more_as_the_class_grows():
    batch = hiding_batch()
    torch.manual_seed(0)
    pairs = sample_pairs(batch, 16, hidden=8)
    features = torch.randn(12, 8, 12, 16, generator=torch.Generator().manual_seed(0))
    low, high = (
        correspondence_loss(features, pairs, (96, 128), 0.05, torch.tensor([value])) for value in (0.1, 0.9)
    )
    assert (high < low)[pairs.known & pairs.hidden].all()
    assert (high > low)[pairs.known & ~pairs.hidden].all()
    none = correspondence_loss(features, pairs, (96, 128), 0.05, torch.tensor([20.0]))
    assert none[pairs.known & pairs.hidden].max() < 1e-3  # the class is certain


def test_gradients_of_the_class_and_of_the_features_are_those_of_finite_differences():
    batch = collate_clips([dots(4, (64, 64))])
    batch = ClipBatch(batch.frames, batch.xy, hiding_batch().visibility[:1, :, :4])
    torch.manual_seed(0)
    pairs = sample_pairs(batch, 8, hidden=4)
    features = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    not_here = torch.tensor([0.4], requires_grad=True)

    def loss(features, not_here):
        return correspondence_loss(features, pairs, (64, 64), 0.2, not_here).sum()

    loss(features, not_here).backward()
    step = 1e-2
    with torch.no_grad():
        change = loss(features, not_here + step) - loss(features, not_here - step)
        torch.testing.assert_close(not_here.grad[0], change / (2 * step), rtol=1e-2, atol=1e-2)
        direction = torch.randn(features.shape, generator=torch.Generator().manual_seed(1))
        direction /= direction.norm()
        change = loss(features + step * direction, not_here) - loss(features - step * direction, not_here)
        expected = (features.grad * direction).sum()
        torch.testing.assert_close(expected, change / (2 * step), rtol=2e-2, atol=2e-2)


def test_the_position_of_a_match_is_its_soft_argmax_within_the_radius():
    """A feature that only the right cell has gives no loss; one that a far cell shares, none within reach."""
    clip = dots(2, (64, 64), points=4)
    xy = torch.tensor([[19.5, 27.5]]).expand(1, 1, 2, 2)  # the middle of a cell of 8 px
    batch = ClipBatch(clip.frames[None], xy, torch.ones(1, 1, 2, dtype=torch.bool))
    pairs = sample_pairs(batch, 1)
    features = torch.zeros(2, 2, 8, 8)
    features[:, 0] = 1.0
    features[:, :, 3, 2] = torch.tensor([0.0, 1.0])
    assert position_loss(features, pairs, (64, 64), 0.02, 35.0).max() < 1e-6
    features[1, :, 3, 6] = torch.tensor([0.1, 1.0])  # a look-alike at 32 px in one frame
    near = position_loss(features, pairs, (64, 64), 0.02, 16.0)
    far = position_loss(features, pairs, (64, 64), 0.02, 48.0)
    assert near.max() < 1e-6
    assert far[1] > 1e-3  # the look-alike votes too
