"""The loss on a whole grid of a plane: one signature for all strategies, devices and sizes."""


class NonFiniteWarning(UserWarning):
    """Some cells of a landscape are NaN or infinite."""


class InterruptedWarning(UserWarning):
    """A landscape has fewer rows than were asked for, as its computation was interrupted."""
