"""Images to announce: where they are named, how they are sent, and what becomes of them."""
