"""The seal of a collected set."""

from dtql_jax.data.digest import file_digest


def test_file_digest__of_known_bytes(tmp_path):
    (tmp_path / 'abc').write_bytes(b'abc')
    expected = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
    assert file_digest(tmp_path / 'abc') == expected
