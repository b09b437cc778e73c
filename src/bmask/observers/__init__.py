"""What watches a training and changes nothing about it; `tracking.tracker.Tracker` is such an observer too."""
