"""What the grouping stage knows and says: images, pairs, facts on its topic, groups."""
