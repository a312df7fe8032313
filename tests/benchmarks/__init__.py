"""Benchmarks: `make bench` runs them; a package, so that its conftest is not that of the tests."""
