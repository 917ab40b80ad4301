"""What a stage's process shows of itself: metrics, probes, its state on a topic."""
