"""Shards of the search: which images each holds, whose turn it is to answer, and their answers as one."""
