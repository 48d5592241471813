"""What a code server's runs are forked from: a process that has loaded the definitions once.

It starts with the first run, and ends with the code server. So runs have the code that the UI shows
until somebody reloads it there.
"""

from softcart_assets.definitions import defs

defs()
