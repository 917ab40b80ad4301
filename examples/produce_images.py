"""Announce images: python produce_images.py BROKER PATH…  (each relative to the folder that the encoders read).

Needs confluent-kafka and fastavro, and the published schema image_new.v2.avsc.
"""

import argparse
import io
import json
import sys
from pathlib import Path

from confluent_kafka import KafkaError, Message, Producer
from fastavro import schemaless_writer
from fastavro.schema import fingerprint, to_parsing_canonical_form

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("broker", help="host:port")
arguments.add_argument("paths", nargs="+")
arguments.add_argument("--topic", default="images.new")
arguments.add_argument("--schema", type=Path, default=Path(__file__).parent.parent / "schemas" / "image_new.v2.avsc")
arguments.add_argument("--metadata", action="append", default=[], metavar="NAME=VALUE", help="comes back in alerts")
options = arguments.parse_args()
metadata = dict(one.split("=", 1) for one in options.metadata)

schema = json.loads(options.schema.read_text("utf-8"))
# Avro's single-object encoding: C3 01, the schema's fingerprint, the record
head = b"\xc3\x01" + bytes.fromhex(fingerprint(to_parsing_canonical_form(schema), "CRC-64-AVRO"))


failures = []


def delivered(error: KafkaError | None, message: Message) -> None:
    """Note what the broker refused."""
    if error is not None:
        failures.append(f"{bytes(message.key()).decode()}: {error.str()}")


# Java's default partitioner keeps the announcements of a path in order across producers
producer = Producer({"bootstrap.servers": options.broker, "partitioner": "murmur2_random", "enable.idempotence": True})
for request_id, path in enumerate(options.paths, 1):
    body = io.BytesIO()
    image = {"request_id": request_id, "relative_path": path, "alert": True, "metadata": metadata}
    schemaless_writer(body, schema, image)
    producer.produce(options.topic, key=path.encode(), value=head + body.getvalue(), on_delivery=delivered)
    producer.poll(0)
if left := producer.flush(30):
    failures.append(f"{left} were not delivered in time")
if failures:
    sys.exit("\n".join(failures))
