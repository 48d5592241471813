"""The local stack: MySQL, PostgreSQL, MongoDB and DynamoDB servers of its own under one home.

They are for development and tests. This package starts, stops and finds the servers. It makes the
environment that tells the rest of the project where they are. It does not know what they store.
`Stack` is the way in. `doctor` looks at the machine. `derived` makes the files for Docker Compose.
"""

from softcart_assets.stack.server import StackError
from softcart_assets.stack.stack import Stack

__all__ = ["Stack", "StackError"]
