"""Makes and adapts the fingerprint: photos → augmented views → losses → weights, without labels."""
