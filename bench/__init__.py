"""Every number of the README and of docs/, each with the command that prints it."""
