"""How many clips a pass takes: the same on every run, fewer where feature maps are large."""

import pytest
import tiny_backbone
import torch
from torch import nn

import gcf
from gcf.extract import precision
from gcf.extract.batch_size import LARGEST_MAP, LEAST, MOST, batch_size_of, largest_map
from gcf.extract.precision import precise_network

CPU = torch.device("cpu")


@pytest.mark.parametrize("values", [1, 10_000, 150_000, 1 << 20, 1 << 22, 1 << 23, 1 << 30])
def test_on_processors_it_is_the_largest_power_of_two_whose_largest_map_fits(values):
    size = batch_size_of(values, device=CPU, bytes_each=2)
    assert size in (2, 4, 8)
    assert size == LEAST or size * values * 2 <= LARGEST_MAP
    assert size == MOST or 2 * size * values * 2 > LARGEST_MAP


def test_gpus_and_float32_have_a_number_of_their_own():
    assert batch_size_of(1 << 30, device=torch.device("cuda"), bytes_each=2) == 32
    assert batch_size_of(1 << 30, device=CPU, bytes_each=4) == 4


def test_the_largest_map_is_the_largest_output_of_any_layer_and_nothing_stays_hooked():
    network = nn.Sequential(nn.Conv3d(3, 8, 1), nn.MaxPool3d(2), nn.Conv3d(8, 16, 1), nn.Flatten())
    with largest_map(network) as largest:
        network(torch.zeros(5, 3, 4, 6, 6))
    assert largest == [8 * 4 * 6 * 6]
    network(torch.zeros(1, 3, 8, 8, 8))
    assert largest == [8 * 4 * 6 * 6]


@pytest.mark.parametrize(("asked", "size"), [(None, 2), (5, 5)])
def test_it_follows_the_network_unless_it_is_given(monkeypatch, asked, size):
    monkeypatch.setattr(precision, "natural_precision", lambda _: "bf16")
    monkeypatch.setattr(precision, "batch_size_of", lambda values, **_: values // (8 * 8 * 16 * 16) * 2)
    backbone = gcf.load_backbone(tiny_backbone.__file__)  # its first map is 8 x 8 x 16 x 16
    network, entries = precise_network(backbone, device=CPU, precision="auto", batch_size=asked, num_frames=16)
    assert network.batch_size == entries["batch_size"] == size
