"""Training half of each detector: images of good parts go in, losses and trained networks come out."""
