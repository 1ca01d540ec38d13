"""Numbers without models: intervals, p-values, rankings, calibration, overlap of texts."""
