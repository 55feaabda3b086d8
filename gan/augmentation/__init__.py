"""Random changes of images: of the data alone, or of all that the discriminator sees."""

from gan.augmentation.data_augmentation import DATA_AUGMENTATIONS as DATA_AUGMENTATIONS
from gan.augmentation.data_augmentation import DataAugmentation as DataAugmentation
from gan.augmentation.discriminator_augmentation import (
    DISCRIMINATOR_AUGMENTATIONS as DISCRIMINATOR_AUGMENTATIONS,
)
from gan.augmentation.discriminator_augmentation import (
    DiscriminatorAugmentation as DiscriminatorAugmentation,
)
from gan.augmentation.discriminator_augmentation import NoAugmentation as NoAugmentation
from gan.registry import import_all

import_all(__name__, __path__)
