"""Observers of a training, which change nothing about it; `tracking.tracker.Tracker` is one too."""
