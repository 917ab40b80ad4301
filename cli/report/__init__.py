"""What `imagetools find` writes: groups, pages for people, files for programs."""
