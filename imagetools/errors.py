"""Errors that an input is to blame for, and those that nobody is to blame for.

An `ImageToolsError` names its input and the reason: a stage makes it a dead letter, the command line one line of text.
Any other error is a fault of the program or the machine, and ends the process.

    ImageToolsError
    ├── ImageError            the bytes at a path are no image that can be used
    │   ├── MissingImage      there is no such file
    │   ├── UnreadableImage   the file may not be read, while the folder of all images may
    │   ├── OutsideRoot       the path leaves the folder of images
    │   ├── UnsupportedImage  not an image, or of a format that is not read
    │   ├── BrokenImage       an image that ends early or is damaged
    │   └── ImageTooLarge     more bytes or pixels than the limit
    ├── MessageError          a Kafka message that does not fit its topic
    ├── ModelError            a model file that cannot be used
    ├── IndexMismatch         a vector or a file that does not belong in this index
    │   └── SnapshotDamaged   a saved index that has changed since it was saved
    ├── ConfigError           a setting that is wrong
    ├── CannotWrite           a place for results that cannot be written
    └── PrerequisiteMissing   something that is needed first; says how to get it
    ImageRootUnavailable      the folder of all images is away: wait, do not blame the image
    RegistryAway              the schema registry does not answer: wait, do not blame the message
"""


class ImageToolsError(Exception):
    """An error that an input is to blame for; the message names it and says why."""


class ImageError(ImageToolsError):
    """An image that cannot be used.

    name    the path or label of the image
    reason  what is wrong with it, in plain words
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class MissingImage(ImageError):
    """There is no such file."""


class UnreadableImage(ImageError):
    """The file may not be read; the folder of all images may."""


class OutsideRoot(ImageError):
    """The path leaves the root by `..`, by being absolute, or through a symbolic link."""


class UnsupportedImage(ImageError):
    """Not an image, or of a format that is not read."""


class BrokenImage(ImageError):
    """The file ends early or is damaged."""


class ImageTooLarge(ImageError):
    """More bytes or pixels than the limit; known from the header, before decoding."""


class MessageError(ImageToolsError):
    """A Kafka message that does not fit its topic."""


class ModelError(ImageToolsError):
    """A model file that cannot be used."""


class IndexMismatch(ImageToolsError):
    """A vector or a snapshot that does not belong in this index."""


class SnapshotDamaged(IndexMismatch):
    """A saved index of which a file is changed, missing or extra."""


class ConfigError(ImageToolsError):
    """A setting that is wrong; the message names it."""


class CannotWrite(ImageToolsError):
    """A place for results that cannot be written; the message names it and says why."""


class PrerequisiteMissing(ImageToolsError):
    """Something that is needed first; the message says how to get it."""


class ImageRootUnavailable(Exception):
    """The folder of all images is missing or does not answer.

    Not an `ImageToolsError`: an unmounted volume must not condemn the images on it.
    """


class RegistryAway(Exception):
    """The schema registry does not answer, or refuses every request.

    Not an `ImageToolsError`: no message is to blame for it.
    """


def _below(kind: type[ImageToolsError]) -> frozenset[str]:
    return frozenset({kind.__name__}).union(*(_below(inner) for inner in kind.__subclasses__()))


ERROR_TYPES = _below(ImageToolsError)
"""Names of all kinds of `ImageToolsError`."""
