"""What goes wrong by no fault of the program: each message is one sentence to the person who can mend it."""


class ConfigError(Exception):
    """A mistake in usage or config: what was given, what fits and what to do."""


class TrainingError(Exception):
    """A run cannot go on: where it stopped, why, and what to do."""


class Stopped(Exception):
    """A run was asked to stop and did, with nothing lost: what asked, and how to go on."""
