"""Every error that anonymotion raises on purpose.

The message of each says what was got, what was expected and what to do next, in one line; it is safe to
show to a user as it is (the command line prints it and exits with `exit_status`).  Anything else that
escapes is a defect of ours.

    AnonymotionError
    ├── SettingsError              a value outside its documented range, or two that contradict each other
    ├── InputError                 the input cannot be read
    │   ├── TruncatedInputError    it holds fewer frames or less time than it promises
    │   └── UnsupportedInputError  it is fine, but of a kind we refuse (10 bits, 1x1 pixels)
    ├── OutputError                the output cannot be written
    ├── DatasetError               a data set or a copy of one cannot be used
    ├── TemplateError              a template or a library of them cannot be used
    │   ├── UnknownAttributeError
    │   └── FeatureSpecMismatch    descriptors of two different specifications were about to be compared
    ├── WeightsError               weights are missing, damaged or of another shape
    ├── DeviceError                the device asked for is not there, or has no memory left
    ├── FlowError                  the optical flow is not finite or of another size than the frame
    ├── MissingDependencyError     an optional package is needed; the message names the extra
    └── NothingMatchedError        no pixel was selected in any frame (exit status 3)

This file does not print, log or translate foreign exceptions: the module that knows the fact raises.
"""

from __future__ import annotations


class AnonymotionError(Exception):
    """Base class: what was got, what was expected, what to do next."""

    exit_status = 1


class SettingsError(AnonymotionError):
    """A setting is outside its documented range, or two settings contradict each other."""


class InputError(AnonymotionError):
    """The input cannot be read as a video, a GIF, a picture or a folder of pictures."""


class TruncatedInputError(InputError):
    """The input holds fewer frames or less time than its own header promises."""


class UnsupportedInputError(InputError):
    """The input is readable, but of a kind that is refused rather than degraded silently."""


class OutputError(AnonymotionError):
    """The output cannot be written; nothing was left at its path."""


class DatasetError(AnonymotionError):
    """A data set is not where or what it should be, or a copy of it was made with other settings."""


class TemplateError(AnonymotionError):
    """A template or a template library is missing, damaged or inconsistent."""


class UnknownAttributeError(TemplateError):
    """An attribute was asked for that the library does not have."""


class FeatureSpecMismatch(TemplateError):  # noqa: N818 - named after the fact, as in the design
    """Descriptors made with one FeatureSpec were about to be compared with those of another."""


class WeightsError(AnonymotionError):
    """Weights are missing, damaged, or do not fit the architecture."""


class DeviceError(AnonymotionError):
    """The device that was asked for is not available, or ran out of memory."""


class FlowError(AnonymotionError):
    """Optical flow that is not finite, or whose size is not the frame's."""


class MissingDependencyError(AnonymotionError):
    """An optional dependency is needed for what was asked; the message names the extra to install."""


class NothingMatchedError(AnonymotionError):
    """No pixel of any frame was selected, so the output would be the input: nothing was written."""

    exit_status = 3
