"""The local stack: private MySQL, PostgreSQL and MongoDB servers under one home directory, for development and tests.

Here belong starting, stopping and finding those servers, and the environment that tells the rest of the project where
they are. What is stored in them does not belong here. `Stack` is the way in; `doctor` looks at the machine.
"""

from softcart_assets.stack.server import StackError
from softcart_assets.stack.stack import REPOSITORY, Stack, default_home

__all__ = ["REPOSITORY", "Stack", "StackError", "default_home"]
