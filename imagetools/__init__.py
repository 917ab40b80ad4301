"""Image-duplicate detection: decode, fingerprint, index, and verify by MBR-SIFT."""
