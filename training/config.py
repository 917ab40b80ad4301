"""Settings of a training run."""

from dataclasses import dataclass, field

from training.augment.config import AugmentConfig


@dataclass(frozen=True)
class TrainConfig:
    """How to train a network.

    minutes       planned length of the run, by the speed of its first steps
    steps         total number; None: as many as fit into the minutes
    size          side of a view in pixels
    batch         photos in a step
    views         edited views of each photo in a step
    rate          AdamW's highest learning rate
    decay         AdamW's weight decay
    temperature   of the softmax over keys
    memory        originals of past steps that serve as negatives besides the batch; 0: NT-Xent without a memory
    slow          share of the slow copy that each step keeps. The slow copy describes the originals (MoCo, He et al.
                  2020): described by the network's own past, all new fingerprints drift away from the old ones together
    frozen        number of layers, of four, that stay as they are together with the stem; 0: everything is trained
    projection    end in a linear map that is first fitted to the photos; a network that has one keeps it
    statistics    update batch norm's running statistics
    spread        weight of KoLeo
    taught        weight of the distance to the teacher, if there is one
    seed          of every random number
    checkpoint_s  seconds between checkpoints
    """

    minutes: float = 120.0
    steps: int | None = None
    size: int = 128
    batch: int = 64
    views: int = 1
    rate: float = 2e-4
    decay: float = 1e-4
    temperature: float = 0.07
    memory: int = 4096
    slow: float = 0.98
    frozen: int = 2
    projection: bool = True
    statistics: bool = False
    spread: float = 0.1
    taught: float = 1.0
    seed: int = 0
    checkpoint_s: float = 300.0
    augment: AugmentConfig = field(default_factory=AugmentConfig)
