"""Formats: what a model is loaded from besides a folder of safetensors."""
