"""HTTP in front of the stream: the contract endpoints, uploads, alerts, images, and a page.

The process holds no model and no index; it asks the stages.
"""
