"""Tests of models that are no image classifiers."""
