"""What watches a training and changes nothing about it; `tracking.logs.Tracker` is such an observer too."""
