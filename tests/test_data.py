import numpy as np
import pytest

from jaxce.data import DATASETS, Examples, Split
from jaxce.errors import ConfigError

SHAPES = {"digits": (1797, (8, 8, 1), 10), "tumor": (569, (30,), 2), "iris": (150, (4,), 3)}


@pytest.fixture(scope="module")
def datasets():
    return {name: load(Split(0.1, 0.2, seed=0)) for name, load in DATASETS.items()}


@pytest.mark.parametrize("name", DATASETS)
def test_a_data_set_is_arrays_of_the_promised_shapes_and_types(name, datasets):
    count, shape, classes = SHAPES[name]
    dataset = datasets[name]
    parts = [dataset.train, dataset.valid, dataset.test]
    assert [len(part.labels) for part in parts[1:]] == [round(0.1 * count), round(0.2 * count)]
    assert sum(len(part.labels) for part in parts) == count
    assert len(dataset.classes) == classes
    for part in parts:
        assert part.inputs.shape == (len(part.labels), *shape)
        assert part.inputs.dtype == np.float32
        assert part.labels.dtype == np.int32
        assert set(part.labels) == set(range(classes))


def test_digits_are_grey_levels_from_zero_to_one_the_right_way_up(datasets):
    images = datasets["digits"].train.inputs
    assert images.min() == 0
    assert images.max() == 1
    zeros = images[datasets["digits"].train.labels == 0].mean(0)[..., 0]
    assert zeros[3:5, 3:5].max() < 0.2 < 0.5 < zeros[3, [2, 5]].min()


@pytest.mark.parametrize("name", ["tumor", "iris"])
def test_features_are_standardized_by_the_train_part_alone(name, datasets):
    dataset = datasets[name]
    np.testing.assert_allclose(dataset.train.inputs.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(dataset.train.inputs.std(0), 1, rtol=1e-5)
    assert abs(dataset.test.inputs.mean(0)).max() > 0.01


NUMBERED = Examples(np.arange(1000.0), np.repeat([0, 1], [800, 200]))


def test_a_split_is_a_partition_with_each_input_beside_its_label():
    parts = Split(0.1, 0.2, seed=0).divide(NUMBERED)
    np.testing.assert_array_equal(np.sort(np.concatenate([part.inputs for part in parts])), NUMBERED.inputs)
    for part in parts:
        np.testing.assert_array_equal(part.labels, part.inputs >= 800)


def test_a_split_keeps_the_proportions_of_the_classes():
    for seed in range(5):
        sizes = [(len(part.labels), part.labels.sum()) for part in Split(0.1, 0.2, seed).divide(NUMBERED)]
        assert sizes == [(700, 140), (100, 20), (200, 40)]


@pytest.mark.parametrize(
    ("valid", "test", "part"), [(0.001, 0.2, "valid"), (0.1, 0.001, "test"), (0.5, 0.499, "train")]
)
def test_a_part_too_small_for_the_classes_is_named(valid, test, part):
    with pytest.raises(ConfigError, match=f"leave 1 of 1000 examples for {part}, too few for one of each of 2"):
        Split(valid, test, seed=0).divide(NUMBERED)


def test_a_seed_names_one_split():
    def test_part(**changes):
        return (
            Split(**{"valid_fraction": 0.1, "test_fraction": 0.2, "seed": 0} | changes)
            .divide(NUMBERED)[2]
            .inputs
        )

    np.testing.assert_array_equal(test_part(), test_part())
    np.testing.assert_array_equal(test_part(), test_part(valid_fraction=0.4))
    assert not np.array_equal(test_part(), test_part(seed=1))
