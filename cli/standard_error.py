"""Lines for people, beside what a command prints for programs."""

import click


def say(text: str) -> None:
    """Print a line on standard error."""
    click.echo(text, err=True)
