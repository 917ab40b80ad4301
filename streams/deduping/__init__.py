"""Duplicates among images that were loaded silently: which there are to search for, and the search."""
