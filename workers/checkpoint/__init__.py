"""Published weights, read without running anything that a file says.

A torch checkpoint is a zip archive with a pickle in it, and a pickle is a program. Here the
program is interpreted: what it names is never imported, what it wants to call is looked up in a
short list, and what is left are tensors. Neither torch nor the classes of the file are needed.
"""

from workers.checkpoint.adopt import adopt
from workers.checkpoint.fit import published
from workers.checkpoint.reader import read

__all__ = ["adopt", "published", "read"]
