"""HTTP in front of the stream: the three old endpoints, more than those, and a page. It holds no model and no index."""
