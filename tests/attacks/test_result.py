"""What an attack found."""

import torch
from small_attacks import attack


def test_the_curve_holds_the_dissimilarity_of_each_iterate(tiny, tiny_batch):
    result = attack("topk", tiny, *tiny_batch)
    assert result.curve.shape == (15, 6)
    for i in result.success.nonzero().flatten().tolist():
        assert result.curve[result.iteration[i] - 1, i] == result.dissimilarity[i]


def test_confidence_is_the_probability_of_the_label(tiny, tiny_batch):
    result = attack("topk", tiny, *tiny_batch)
    for images, found in ((tiny_batch[0], result.confidence_before), (result.images, result.confidence)):
        torch.testing.assert_close(found, tiny(images).softmax(1).gather(1, result.labels[:, None])[:, 0])
