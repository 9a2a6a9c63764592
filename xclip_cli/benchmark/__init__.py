"""Benchmarks: what a model costs and how good it is, beside what one might use instead."""
