"""Datasets as float32 transitions: read, checked, relabelled, described, cached."""
