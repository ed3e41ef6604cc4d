"""Images, labels and names, which stay together."""

import numpy as np
import pytest
import torch
from networks import Tiny

from fragile_utils import data


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        *[(2, [2]), (slice(1, 3), [1, 2]), ([4, 0], [4, 0]), (torch.tensor([True] + [False] * 4), [0]), (-1, [4])],
        *[(np.int64(3), [3]), (torch.tensor(3), [3])],
    ],
    ids=["number", "slice", "list", "mask", "from the end", "NumPy's number", "a tensor's number"],
)
def test_batch_indexing_keeps_images_labels_and_names_together(index, expected):
    images = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 3, 2, 2) / 5
    part = data.Batch(images, torch.arange(5), names=tuple("abcde"))[index]
    assert part.labels.tolist() == expected
    assert part.names == tuple("abcde"[i] for i in expected)
    assert torch.equal(part.images, images[expected])


def test_correct_keeps_what_the_model_gets_right(tiny, tiny_batch):
    images, predicted = tiny_batch
    labels = predicted.clone()
    labels[1] = (labels[1] + 1) % 5
    labels[4] = data.UNKNOWN
    batch = data.Batch(images, labels)
    assert batch.correct(tiny).names == ("image 0", "image 2", "image 3", "image 5")
    assert torch.equal(batch.labelled_by(tiny).labels, torch.where(torch.arange(6) == 1, labels, predicted))


FIVE, OTHERS = tuple("abcde"), tuple("vwxyz")


@pytest.mark.parametrize(
    ("own", "names", "label", "same"),
    [
        *[(FIVE, FIVE, 4, True), (FIVE, OTHERS, 4, False), (FIVE, FIVE[:4], 3, False)],
        *[((), FIVE, 4, True), ((), tuple("abcdef"), 4, False), ((), FIVE[:4], 3, False)],
        *[((), (), 4, True), ((), (), 5, False), (FIVE, (), 4, True), (FIVE, (), 5, False)],
        *[((), (), data.UNKNOWN, True), (FIVE, (), data.UNKNOWN, True)],
    ],
)
def test_images_are_for_a_network_of_their_classes_only(own, names, label, same, tiny_batch):
    """`Tiny` has five classes, whether it names them or not."""
    network = Tiny().eval()
    network.classes = own
    images, predicted = tiny_batch
    batch = data.Batch(images, torch.full_like(predicted, label), names)
    assert batch.has_classes_of(network) == same
    if not same:
        with pytest.raises(ValueError, match="data: photos has other classes than tiny"):
            batch.for_network(network, "tiny", "photos")
        return
    expected = predicted if label == data.UNKNOWN else batch.labels
    found = batch.for_network(network, "tiny", "photos")
    assert torch.equal(found.labels, expected)
    assert found.classes == (own or names)


def test_of_those_for_a_network_the_right_ones_are_taken_or_it_says_that_there_are_none(tiny, tiny_batch):
    images, predicted = tiny_batch
    labels = torch.where(torch.arange(6) < 2, data.UNKNOWN, predicted)
    labels[3] = (labels[3] + 1) % 5
    right = data.Batch(images, labels).right_for(tiny, "tiny", "photos")
    assert right.names == ("image 0", "image 1", "image 2", "image 4", "image 5")
    assert torch.equal(right.labels, predicted[[0, 1, 2, 4, 5]])
    with pytest.raises(ValueError, match="--data: tiny gets none of the 6 images of photos right"):
        data.Batch(images, (predicted + 1) % 5).right_for(tiny, "tiny", "photos", "--data")


def test_a_batch_without_correct_images_is_empty(tiny, tiny_batch):
    images, predicted = tiny_batch
    assert len(data.Batch(images, (predicted + 1) % 5).correct(tiny)) == 0


def test_to_moves_everything(tiny_batch):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    moved = data.Batch(*tiny_batch).to(device)
    assert moved.images.device.type == moved.labels.device.type == device
    assert torch.equal(moved.images.cpu(), tiny_batch[0])


def test_split_deals_out_every_image_once(tiny_batch):
    batch = data.Batch(*tiny_batch)
    first, rest = batch.split(4, seed=1)
    assert sorted(first.names + rest.names) == sorted(batch.names)
    assert (len(first), len(rest)) == (4, 2)
    assert batch.split(4, seed=1)[0].names == first.names != batch.split(4, seed=2)[0].names
    with pytest.raises(ValueError, match="first: expected a whole number from 1 to 6, got 7"):
        batch.split(7)


ONE = torch.rand(1, 3, 4, 4), torch.tensor([0])
BAD = {
    "an image without a label": ((torch.rand(2, 3, 4, 4), torch.tensor([0])), r"\(2,\), got shape \(1,\)"),
    "no images": ((None, None), "images: expected a floating-point tensor .*, got NoneType"),
    "a list of images": (([], ONE[1]), "images: expected a floating-point tensor .*, got list"),
    "half precision": (
        (ONE[0].half(), ONE[1]),
        r"images: .* of float32 or float64, got dtype torch.float16; convert with images.float\(\)",
    ),
    "bfloat16": ((ONE[0].bfloat16(), ONE[1]), r"got dtype torch.bfloat16; convert with images.float\(\)"),
    "no labels": ((ONE[0], None), r"labels: expected an integer tensor \(1,\), got None"),
    "labels that are no numbers of classes": ((ONE[0], torch.tensor([0.5])), "got dtype torch.float32; convert with"),
    "a label below unknown": ((ONE[0], torch.tensor([-2])), "labels: expected classes at least -1, got -2"),
    "one name for all classes": ((*ONE, "cat"), "classes: expected several names, got 'cat'"),
    "classes that are numbers": ((*ONE, (1, 2)), r"classes: expected several names, got \(1, 2\)"),
    "one name for all images": ((*ONE, (), "a"), "names: expected several names, got 'a'"),
    "too many names": ((*ONE, (), ("a", "b")), "names: expected 1, one for each image, got 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_batch_is_refused(case):
    given, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        data.Batch(*given)
