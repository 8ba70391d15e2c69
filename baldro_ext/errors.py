"""The root of the errors whose message is meant for the person at the keyboard."""


class BaldroError(RuntimeError):
    """Something outside the program prevents it; the message says what and what to do, without a traceback."""
