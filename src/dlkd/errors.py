"""The one exception that means "the user can mend this": shown as one line, exit code 2."""


class UserError(Exception):
    """Bad input. The message says what was expected, what was found and what to do."""


def first_line(error: BaseException) -> str:
    """The first line of the message of ``error``, or its type where it has none: a message to the user is one line."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
