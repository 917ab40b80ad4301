"""A stage that kills itself at a named point of a named batch: python killed_stage.py STAGE POINT BATCH [SIGNAL]

polled        the batch is read and nothing is sent
produced      outputs are on the broker, offsets are not sent
offsets_sent  outputs and offsets are on the broker, the transaction is open
committed     the transaction is committed, and the stage does not know it yet
never         it is not killed
"""

import os
import signal
import sys
from importlib import import_module
from typing import Any

from confluent_kafka import Producer

from streams import service
from streams.config import Config
from streams.runner import Runner

BATCH_SIZE = 12


class Killer:
    """Counts a point's passing, and signals the process at the one it waits for."""

    def __init__(self, point: str, batch: int, number: signal.Signals) -> None:
        self.point, self.left, self.number = point, batch, number

    def pass_by(self, point: str) -> None:
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.number)


def main(name: str, point: str, batch: int, number: signal.Signals = signal.SIGKILL) -> None:
    killer = Killer(point, batch, number)

    class KilledProducer(Producer):
        def send_offsets_to_transaction(self, *args: Any, **more: Any) -> None:
            self.flush(30)
            killer.pass_by("produced")
            super().send_offsets_to_transaction(*args, **more)
            killer.pass_by("offsets_sent")

    class KilledRunner(Runner[Any]):
        def __init__(self, stage: Any, *args: Any, **more: Any) -> None:
            run, committed = stage.run, stage.committed

            def polled(batch: Any) -> Any:
                killer.pass_by("polled")
                return run(batch)

            def before_change(offset: int) -> None:
                killer.pass_by("committed")
                committed(offset)

            stage.run, stage.committed, stage.batch_size = polled, before_change, BATCH_SIZE
            super().__init__(stage, *args, producer=KilledProducer, **more)

    service.Runner = KilledRunner  # type: ignore[attr-defined]
    import_module(f"streams.{name}_consumer").main(Config.from_env())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), *(signal.Signals[name] for name in sys.argv[4:]))
