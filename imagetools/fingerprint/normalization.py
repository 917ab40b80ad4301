"""The pixels that torchvision's networks expect, for channels from 0 to 1: (channel − mean) / deviation."""

from typing import Final

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
"""Channel means of ImageNet; red, green, blue."""

IMAGENET_DEVIATION: Final = (0.229, 0.224, 0.225)
"""Standard deviations of the same channels."""
