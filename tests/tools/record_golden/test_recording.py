"""The recorder's batches, noise and weights are those of the committed traces."""

import pathlib

import numpy as np
import pytest

torch = pytest.importorskip('torch', reason='the recorder takes torch, which nothing else needs')

from tests.helpers.golden_weights import formula  # noqa: E402
from tools.record_golden import diffusion_q, recording  # noqa: E402

GOLDEN = np.load(pathlib.Path(__file__).parents[2] / 'golden' / 'dtql.npz')


@pytest.mark.parametrize('name', ['gym', 'box2'])
def test_Case__batches_are_the_recorded_ones(name):
    case = diffusion_q.CASES['dtql'][name]
    for i, batch in enumerate(case.batches(case.steps)):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, GOLDEN[f'{name}/batch{i}/{key}'])


def test_Draws__records_noise_in_order_and_gives_torch_back():
    trace = {}
    with recording.Draws().recorded(trace, 'here'):
        x = torch.randn(2, 3)
        torch.rand((4,), dtype=torch.float64)
    assert list(trace) == ['here/draw00_n', 'here/draw01_u']
    np.testing.assert_array_equal(x.numpy(), trace['here/draw00_n'])
    assert not torch.equal(torch.randn(2, 3), x)


def test_fill__is_the_formula():
    network = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.LayerNorm(5))
    recording.fill(network, 2)
    for k, (name, tensor) in enumerate(network.state_dict().items()):
        expected = formula(tuple(tensor.shape), k, 2, name == '1.weight')
        np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-6)
