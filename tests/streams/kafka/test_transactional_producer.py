"""The producer of a stage's transactions."""

from contextlib import closing
from dataclasses import replace

from schemas.codec import codec
from streams.kafka.transactional_producer import TransactionalProducer
from streams.topics import DEAD_LETTERS
from tests.support.streaming import Reader


def test_more_messages_than_the_queue_of_the_client_takes_are_sent(kafka):
    small = replace(kafka, settings={"queue.buffering.max.messages": "10"})
    reader = Reader(kafka, DEAD_LETTERS)
    with closing(TransactionalProducer(small, "grouping", codec(None))) as producer:
        producer.start()
        producer.begin()
        for number in range(100):
            producer.send_raw(DEAD_LETTERS.name, b"key", f"{number}".encode(), ())
        producer.commit_messages()
    reader.until(lambda reader: len(reader.messages["dead-letters"]) == 100)
    reader.close()
