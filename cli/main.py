"""The command line: `imagetools COMMAND`. A command only translates: options to settings, errors to one line.

Commands import what they run inside the function, so that `imagetools --help` loads no library.
"""

import click

from cli.commands import clients, cluster, dead_letters, groups, jobs, models, processes
from cli.commands.errors import CommandGroup
from imagetools.logs import keep_console_clear


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="imagetools-kafka")
def main() -> None:
    """Find images that duplicate others: re-encoded, resized, cropped, mirrored, turned, recoloured, captioned.

    \b
    Try it on a folder:        imagetools find DIR
    Run it as a service:       imagetools up --images-dir DIR
                               imagetools produce DIR        announce images
                               imagetools watch              see alerts as they arrive
                               imagetools groups | decide    see groups, and say what they are
    On your own Kafka:         set KAFKA_BOOTSTRAP_SERVERS, then
                               imagetools topics create
                               imagetools encoder | search | matcher | grouping | bridge
    """  # noqa: D301 - click's mark for lines to keep as they are
    keep_console_clear()


for _command in (
    jobs.find, jobs.demo, jobs.compare, processes.up, clients.produce, clients.dedupe, clients.watch, clients.status,
    clients.index, groups.groups, groups.decide, dead_letters.dead_letters,
    processes.encoder, processes.search, processes.matcher, processes.grouping, processes.bridge, processes.reencode,
    models.train, models.quantize, cluster.kafka, cluster.topics, cluster.reshard,
):  # fmt: skip
    main.add_command(_command)
