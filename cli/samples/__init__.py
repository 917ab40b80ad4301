"""The sample photos of the demo; README.md beside this file names their source and licence."""
