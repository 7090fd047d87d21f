"""Trained policies for programs without this package: StableHLO, ONNX, and NumPy alone.

`write` has `dtql_jax.export`. `noise` separates a policy's chance from its computation, `graph`
writes that computation as a graph of ONNX operations, by the rules in `elementwise` and `shapes`,
and `numpy_policy` runs such a graph.
"""
