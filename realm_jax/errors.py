"""The errors that are the user's to mend."""


class UserError(ValueError):
  """Bad input: says what was wrong, what was expected and what to do.

  The command line prints its message alone and exits with status 2. Anything
  else that escapes is a defect of this library and keeps its traceback.
  """


# All of which the command line prints the message alone.
USER_ERRORS = (UserError, FileNotFoundError, ImportError, FloatingPointError)
