"""The one exception that means "the user can mend this": shown as one line, exit code 2."""


class UserError(Exception):
    """Bad input. The message says what was expected, what was found and what to do."""
