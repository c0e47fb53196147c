"""What can go wrong, each with the exit code that the command line gives it."""


class GcfError(Exception):
    """Anything a user can put right: the message says what was wrong, where, and what to do."""

    exit_code = 1


class UsageError(GcfError, ValueError):
    """A name or a combination of options that does not exist: a bad argument, from Python as from the command line."""

    exit_code = 2


class RefusedError(GcfError):
    """Nothing was done, because doing it would mix, damage or trust what it should not."""

    exit_code = 4


class FeatureFileError(RefusedError):
    """A feature file is damaged, foreign, or of another schema."""


class RecipeError(RefusedError):
    """Two things made by different recipes were about to be mixed."""


class AnnotationError(RefusedError):
    """An annotation file does not say what its format promises."""


class WeightsError(RefusedError):
    """Weights are absent, damaged, unsafe to read, or of another network."""


class HeadError(RefusedError):
    """A saved head is damaged or does not fit the features."""


class VideoError(GcfError):
    """One video gave no clips; the message is the reason that is recorded for it."""


class StoppedError(GcfError):
    """Work ended early and can be resumed by the same command."""

    exit_code = 5
