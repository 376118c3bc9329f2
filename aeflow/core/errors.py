"""Errors a user can act on: one sentence on what is wrong, where, and what to do."""


class AeflowError(Exception):
    """Base of all errors whose message is meant for the user.

    Scripts print the message as one line on stderr; the traceback goes to the log.
    """


class ConfigError(AeflowError):
    """A key, value or card of the configuration is wrong."""


class DataError(AeflowError):
    """A download, an archive, an image or a prepared array is wrong."""


class NoSpaceError(DataError):
    """A file would not fit on the disk."""


class AccessError(DataError):
    """A dataset has to be asked for. Its message is a recipe, one step per line."""


class CheckpointError(AeflowError):
    """A checkpoint belongs to another configuration or was changed."""


class TrainingError(AeflowError):
    """Training cannot go on, for example because the loss is not finite."""


class ClusterError(AeflowError):
    """SLURM is missing, does not answer, or refuses a job."""
