"""Diagnosis: every room brings its own checks, and whoever asks gets steps with plain advice."""
