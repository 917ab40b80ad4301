"""Training of the fingerprint the fingerprint: photos → augmented views → losses → weights, without labels."""
